//! The closing lines of libtest and nextest, added up.

use std::fmt;

/// How many tests came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Succeeded.
    pub passed: u64,
    /// Failed, or ended by the time limit.
    pub failed: u64,
    /// Not run.
    pub skipped: u64,
}

impl Counts {
    /// The counts of a closing line; zero for any other line.
    pub fn of_line(line: &str) -> Self {
        let line = line.trim();
        // "test result: ok. 3 passed; 0 failed; 1 ignored; ..." (libtest)
        // "Summary [ 0.1s] 4 tests run: 3 passed (1 slow), 1 failed, 2 skipped" (nextest)
        let is_closing = line.starts_with("test result: ")
            || (line.starts_with("Summary [") && line.contains(" run: "));
        if !is_closing {
            return Self::default();
        }
        let before = |word: &str| number_before(line, word);
        Self {
            passed: before("passed"),
            failed: before("failed") + before("timed out"),
            skipped: before("ignored") + before("skipped"),
        }
    }

    /// Adds another group's.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    line.split(&format!(" {word}"))
        .next()
        .filter(|before| before.len() < line.len())
        .and_then(|before| before.rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_runners() {
        for (line, passed, failed, skipped) in [
            (
                "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 5 filtered out",
                3,
                1,
                2,
            ),
            (
                "     Summary [   0.123s] 4 tests run: 3 passed (1 slow), 1 failed, 2 skipped",
                3,
                1,
                2,
            ),
            (
                "     Summary [ 60.0s] 2 tests run: 1 passed, 1 timed out, 0 skipped",
                1,
                1,
                0,
            ),
            (
                "     Summary [   0.0s] 1 test run: 1 passed, 0 skipped",
                1,
                0,
                0,
            ),
            ("test wait::looks_again ... ok", 0, 0, 0),
            ("we have 3 passed, 1 failed", 0, 0, 0),
        ] {
            assert_eq!(
                Counts::of_line(line),
                Counts {
                    passed,
                    failed,
                    skipped
                },
                "{line}"
            );
        }
    }

    #[test]
    fn closes_with_the_plain_line() {
        let counts = Counts {
            passed: 12,
            failed: 0,
            skipped: 1,
        };
        assert_eq!(counts.to_string(), "12 passed, 0 failed, 1 skipped");
    }
}
