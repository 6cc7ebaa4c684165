//! File sizes: 500 production lines ask why, 800 fail. Tests over 100 lines move out.

use super::Finding;

const ASK: usize = 500;
const SPLIT: usize = 800;
const TESTS: usize = 100;

/// Checks one Rust file. Production lines are those before `#[cfg(test)]`; files that hold
/// nothing but tests have no limit.
pub fn check(name: &str, text: &str) -> Vec<Finding> {
    if is_test_file(name) {
        return Vec::new();
    }
    let total = text.lines().count();
    let production = text
        .lines()
        .position(|line| line.trim_start() == "#[cfg(test)]")
        .unwrap_or(total);
    let tests = total - production;
    let mut findings = Vec::new();
    if production >= SPLIT {
        let message = format!("{production} production lines: split the file");
        findings.push(Finding::error(name, 0, message));
    } else if production >= ASK {
        let message = format!("{production} production lines: why so many?");
        findings.push(Finding::question(name, 0, message));
    }
    if tests > TESTS {
        let message = format!("{tests} lines of tests: move them to a sibling file");
        findings.push(Finding::question(name, production + 1, message));
    }
    findings
}

/// `tests.rs`, `*_tests.rs` and everything under `tests/e2e`, `tests/kernel`.
pub fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs")
        || name.ends_with("_tests.rs")
        || name
            .split('/')
            .rev()
            .skip(1)
            .any(|part| part == "e2e" || part == "kernel")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn long_files_are_found() {
        let lines = |count: usize| "x\n".repeat(count);
        assert!(check("daemon/src/a.rs", &lines(499)).is_empty());
        assert_eq!(
            check("daemon/src/a.rs", &lines(500))[0].level,
            Level::Question
        );
        assert_eq!(check("daemon/src/a.rs", &lines(800))[0].level, Level::Error);
        assert!(check("daemon/src/a/tests.rs", &lines(900)).is_empty());
    }

    #[test]
    fn tests_do_not_count_but_should_move_out() {
        let text = format!("x\n#[cfg(test)]\n{}", "y\n".repeat(900));
        let found = check("daemon/src/a.rs", &text);
        assert_eq!((found.len(), found[0].level), (1, Level::Question));
    }
}
