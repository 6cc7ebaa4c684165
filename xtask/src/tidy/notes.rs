//! Notes to ourselves: each names an issue that CHANGELOG.md lists under "Known gaps".

use super::Finding;

/// Split, so that this file does not find itself.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Checks one file of any kind.
pub fn check(name: &str, text: &str, changelog: &str) -> Vec<Finding> {
    let gaps = known_gaps(changelog);
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((word, rest)) = note_in(line) else {
            continue;
        };
        let listed = issue_in(rest).is_some_and(|issue| {
            gaps.split(|c: char| !c.is_alphanumeric() && c != '#')
                .any(|part| part == issue)
        });
        if !listed {
            let message =
                format!("{word} without an issue of CHANGELOG.md's known gaps; write {word}(#N)");
            findings.push(Finding::error(name, index + 1, message));
        }
    }
    findings
}

/// The note's word and what follows it.
fn note_in(line: &str) -> Option<(&'static str, &str)> {
    WORDS.iter().find_map(|word| {
        let at = line.find(word)?;
        let before = line[..at].chars().next_back();
        let rest = &line[at + word.len()..];
        let whole = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (whole(before) && whole(rest.chars().next())).then_some((*word, rest))
    })
}

/// `(#12)` gives `#12`.
fn issue_in(rest: &str) -> Option<String> {
    let inside = rest.strip_prefix('(')?.split(')').next()?;
    let number: u32 = inside.strip_prefix('#')?.parse().ok()?;
    Some(format!("#{number}"))
}

/// The text of the section "Known gaps".
fn known_gaps(changelog: &str) -> String {
    let is_heading = |line: &&str| line.starts_with('#') && line.contains(' ');
    changelog
        .lines()
        .skip_while(|line| !(is_heading(line) && line.to_lowercase().contains("known gaps")))
        .skip(1)
        .take_while(|line| !is_heading(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "## Unreleased\n- #9 added\n### Known gaps\n- UDP (#3)\n## 0.1\n- #7\n";

    #[test]
    fn only_issues_of_the_known_gaps_count() {
        let found = |note: &str| {
            let line = format!("    // {}{note}", WORDS[0]);
            check("a.rs", &line, CHANGELOG).len()
        };
        assert_eq!(found("(#3): close UDP"), 0);
        assert_eq!(found("(#9): elsewhere in the changelog"), 1);
        assert_eq!(found("(#7)"), 1);
        assert_eq!(found(": some day"), 1);
        assert_eq!(found("S are many"), 0);
    }
}
