//! File sizes: 500 production lines ask why, 800 fail. Tests over 100 lines move out.

use super::Finding;

const ASK: usize = 500;
const SPLIT: usize = 800;
const TESTS: usize = 100;

/// Checks one Rust file. Production lines are those before the tests' module; files that
/// hold nothing but tests have no limit.
pub fn check(name: &str, text: &str) -> Vec<Finding> {
    if is_test_file(name) {
        return Vec::new();
    }
    let total = text.lines().count();
    let production = tests_begin(text).unwrap_or(total);
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

/// The line of the `#[cfg(test)]` above a module that is written out here; one that is
/// only named (`mod tests;`), or a single item for tests, may stand in the middle.
fn tests_begin(text: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let is_module = |at: usize| {
        let mut below = lines.iter().skip(at);
        let item = below.find(|line| !line.starts_with("#["));
        item.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let mut marks = lines.iter().enumerate();
    let found = marks.find(|(at, line)| **line == "#[cfg(test)]" && is_module(*at));
    found.map(|(at, _)| at)
}

/// `tests.rs`, `*_tests.rs`, what is below a module's `tests`, and everything under
/// `tests/e2e`, `tests/kernel`.
pub fn is_test_file(name: &str) -> bool {
    let mut folders = name.split('/').rev().skip(1);
    name.ends_with("/tests.rs")
        || name.ends_with("_tests.rs")
        || name.contains("/tests/")
        || folders.any(|part| part == "e2e" || part == "kernel")
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
        let text = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "y\n".repeat(900));
        let found = check("daemon/src/a.rs", &text);
        assert_eq!((found.len(), found[0].level), (1, Level::Question));
    }

    #[test]
    fn production_lines_below_the_name_of_the_tests_count() {
        for marked in ["mod tests;", "pub fn only_for_tests() {}", "use x::y;"] {
            let text = format!("#[cfg(test)]\n{marked}\n{}", "y\n".repeat(900));
            let found = check("daemon/src/a.rs", &text);
            assert_eq!((found.len(), found[0].level), (1, Level::Error), "{marked}");
        }
    }

    #[test]
    fn tests_of_a_module_are_test_files_and_the_guards_are_not() {
        assert!(is_test_file("daemon/src/a/tests/b.rs"));
        assert!(is_test_file("tests/e2e/a.rs"));
        assert!(!is_test_file("tests/src/daemon.rs"));
    }
}
