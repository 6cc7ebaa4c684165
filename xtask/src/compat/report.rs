//! The table of `docs/compat.md`: one line for each suite, and the differences below it.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use portcullis_tests::paths::workspace;

use super::Suite;
use super::results::{Both, Difference};
use crate::bench_report::{machine, put_between};
use crate::test_counts::Counts;

const OUTPUT: &str = "docs/compat.md";

/// A suite's results.
#[derive(Debug)]
pub struct Row {
    suite: Suite,
    both: Both,
    differences: Vec<Difference>,
}

impl Row {
    /// Compares the two runs.
    pub fn new(suite: Suite, both: Both) -> Self {
        let differences = both.differences(suite);
        Self {
            suite,
            both,
            differences,
        }
    }

    /// The counts through the gate.
    pub fn through(&self) -> Counts {
        self.both.through.counts()
    }

    /// Differences with no known reason, and known ones that are none.
    pub fn surprises(&self) -> Vec<String> {
        let unknown = self.differences.iter().filter(|it| it.why.is_none());
        let mut found: Vec<String> = unknown.map(Difference::to_string).collect();
        let agreeing = self.both.agreeing(self.suite);
        found.extend(
            agreeing
                .iter()
                .map(|test| format!("{test}: does not differ any more")),
        );
        if self.both.through.counts().passed == 0 {
            found.push("nothing has passed".into());
        }
        found
    }

    fn line(&self) -> Result<String> {
        let (direct, through) = (self.both.direct.counts(), self.through());
        let total = direct.passed + direct.failed + direct.skipped;
        let differences = match self.differences.len() {
            0 => "nothing".to_owned(),
            count => format!("{count}, below"),
        };
        let name = self.suite.name();
        Ok(format!(
            "| {name} | {} | {total} | {} | {} | {differences} | `cargo xtask compat {name}` | {} |\n",
            self.both.version,
            direct.passed,
            through.passed,
            machine()?,
        ))
    }

    fn list(&self) -> String {
        let name = self.suite.name();
        let lines = self
            .differences
            .iter()
            .map(|it| format!("- {name}, {it}\n"));
        lines.collect()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direct, through) = (self.both.direct.counts(), self.through());
        write!(f, "{} {}: ", self.suite.name(), self.both.version)?;
        write!(f, "direct {direct}; through the gate {through}")?;
        self.differences
            .iter()
            .try_for_each(|it| write!(f, "\n  {it}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |outcome: Option<super::results::Outcome>| outcome.map_or("absent", |it| it.name());
        let (direct, through) = (name(self.direct), name(self.through));
        write!(f, "`{}`: {direct} direct, {through} through: ", self.test)?;
        f.write_str(self.why.unwrap_or("NOT KNOWN WHY"))
    }
}

/// Replaces the suite's line and its differences.
pub fn write(row: &Row) -> Result<()> {
    let path = workspace().join(OUTPUT);
    let old = fs::read_to_string(&path).with_context(|| format!("read {OUTPUT}"))?;
    let name = row.suite.name();
    let markers = |what: &str| {
        (
            format!("<!-- {name}:{what} -->"),
            format!("<!-- {name}:{what}:end -->"),
        )
    };
    let (begin, end) = markers("differences");
    let text = put_between(&old, &begin, &end, &row.list())?;
    let text = with_line(&text, &format!("| {name} |"), &row.line()?)?;
    fs::write(&path, text).with_context(|| format!("write {OUTPUT}"))
}

/// The text with the line of the table that starts so replaced.
fn with_line(text: &str, start: &str, line: &str) -> Result<String> {
    let at = text
        .find(start)
        .with_context(|| format!("no line `{start}` in {OUTPUT}"))?;
    let (before, rest) = text.split_at(at);
    let after = rest.split_once('\n').map_or("", |(_, after)| after);
    Ok(format!("{before}{line}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_replaced() {
        let text = "| suite |\n|---|\n| a | 1 |\n| b | 2 |\n";
        let new = with_line(text, "| a |", "| a | 3 |\n").expect("there");
        assert_eq!(new, "| suite |\n|---|\n| a | 3 |\n| b | 2 |\n");
        assert!(with_line(text, "| c |", "").is_err());
    }
}
