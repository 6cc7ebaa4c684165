//! What came of each test of a suite, in each way, and what differs.

use std::collections::BTreeMap;

use super::Suite;
use super::known;
use crate::test_counts::Counts;

/// How one test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As the suite wants it.
    Passed,
    /// Not so.
    Failed,
    /// Not run.
    Skipped,
}

impl Outcome {
    /// The word in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Passed, or else failed.
    pub fn of(passed: bool) -> Self {
        match passed {
            true => Self::Passed,
            false => Self::Failed,
        }
    }
}

/// The tests of a run, by name.
#[derive(Debug, Clone, Default)]
pub struct Results(BTreeMap<String, Outcome>);

impl Results {
    /// Adds a test; the worse of two outcomes of one name counts.
    pub fn add(&mut self, name: &str, outcome: Outcome) {
        let entry = self.0.entry(name.to_owned()).or_insert(outcome);
        if outcome == Outcome::Failed {
            *entry = outcome;
        }
    }

    /// How many ended how.
    pub fn counts(&self) -> Counts {
        let of = |wanted| {
            self.0
                .values()
                .filter(|outcome| **outcome == wanted)
                .count() as u64
        };
        Counts {
            passed: of(Outcome::Passed),
            failed: of(Outcome::Failed),
            skipped: of(Outcome::Skipped),
        }
    }
}

impl FromIterator<(String, Outcome)> for Results {
    fn from_iter<I: IntoIterator<Item = (String, Outcome)>>(tests: I) -> Self {
        let mut results = Self::default();
        for (name, outcome) in tests {
            results.add(&name, outcome);
        }
        results
    }
}

/// A suite's two runs.
#[derive(Debug)]
pub struct Both {
    /// Of the suite, and of what it is built with.
    pub version: String,
    /// With nothing in between.
    pub direct: Results,
    /// In an agent session.
    pub through: Results,
}

/// A test that came out in two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The test.
    pub test: String,
    /// Direct; none if it was not there.
    pub direct: Option<Outcome>,
    /// Through the gate.
    pub through: Option<Outcome>,
    /// Why, if that is known.
    pub why: Option<&'static str>,
}

impl Both {
    /// All tests whose outcomes differ.
    pub fn differences(&self, suite: Suite) -> Vec<Difference> {
        let mut names: Vec<&String> = self.direct.0.keys().chain(self.through.0.keys()).collect();
        names.sort();
        names.dedup();
        let outcome = |results: &Results, name: &String| results.0.get(name).copied();
        let pair = |name: &String| (outcome(&self.direct, name), outcome(&self.through, name));
        names
            .into_iter()
            .filter(|name| {
                let (direct, through) = pair(name);
                direct != through
            })
            .map(|name| Difference {
                test: name.clone(),
                direct: outcome(&self.direct, name),
                through: outcome(&self.through, name),
                why: known::reason(suite, name),
            })
            .collect()
    }

    /// Tests that are said to differ, and do not.
    pub fn agreeing(&self, suite: Suite) -> Vec<&'static str> {
        let differences = self.differences(suite);
        let differs = |test: &str| differences.iter().any(|found| found.test == test);
        known::tests(suite).filter(|test| !differs(test)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(tests: &[(&str, Outcome)]) -> Results {
        tests
            .iter()
            .map(|(name, outcome)| ((*name).to_owned(), *outcome))
            .collect()
    }

    #[test]
    fn what_is_missing_or_other_differs() {
        let both = Both {
            version: String::new(),
            direct: results(&[
                ("a", Outcome::Passed),
                ("b", Outcome::Passed),
                ("c", Outcome::Failed),
            ]),
            through: results(&[("a", Outcome::Passed), ("b", Outcome::Failed)]),
        };
        let found = both.differences(Suite::Pgbench);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.test.as_str(), it.through))
            .collect();
        assert_eq!(found, [("b", Some(Outcome::Failed)), ("c", None)]);
    }

    #[test]
    fn one_failure_of_a_name_is_a_failure() {
        let both = results(&[("a", Outcome::Failed), ("a", Outcome::Passed)]);
        assert_eq!(both.counts().failed, 1);
    }
}
