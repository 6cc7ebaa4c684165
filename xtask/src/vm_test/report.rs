//! What came back from a machine: one line for each check, and the tables for docs/gate.md.
//!
//! `results.tsv` has `part, name, verdict, detail`; verdict is `ok`, `FAIL` or `-` (does not
//! apply here). `gate.md`, if there, is the part for the documentation.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::kernels::Kernel;
use crate::test_counts::Counts;

/// The heading of our section; it ends where the next of its level begins.
const HEADING: &str = "## Measured in the VM";

/// What is before the tables.
const INTRODUCTION: &str = "
Written by `cargo xtask vm-test --write`: Debian with systemd, each kernel in qemu. Each way out
(`tests/vm/guest/catalogue.py`) is tried from a cgroup beside the gate's, from a session without
the launcher, and from one that `portcullis run` started; as root, and as an ordinary user who
starts it itself. Reached is what a listener outside the session has seen, or what has changed on
the host. *Of* counts the ways that the kernel has. Without BPF LSM means that its programs are
detached. The run fails if without a gate root does not reach every one, and if with BPF LSM or
the launcher anything is reached that is not on the list of `tests/vm/guest/verdict.py`.
";

/// What one kernel gave.
#[derive(Debug)]
pub struct Report {
    /// Which.
    pub kernel: &'static Kernel,
    version: String,
    lines: Vec<Vec<String>>,
    tables: String,
    finished: bool,
    took: Duration,
}

impl Report {
    /// Reads the results of a run from a directory.
    pub fn read(
        kernel: &'static Kernel,
        version: String,
        dir: &Path,
        took: Duration,
    ) -> Result<Self> {
        let text =
            fs::read_to_string(dir.join("results.tsv")).context("no results.tsv came back")?;
        let lines = text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect();
        Ok(Self {
            kernel,
            version,
            lines,
            tables: fs::read_to_string(dir.join("gate.md")).unwrap_or_default(),
            finished: fs::read_to_string(dir.join("rc")).is_ok_and(|rc| rc.trim() == "0"),
            took,
        })
    }

    fn count(&self, verdict: &str) -> u64 {
        let is = |line: &&Vec<String>| line.get(2).is_some_and(|found| found == verdict);
        self.lines.iter().map(|line| u64::from(is(&line))).sum()
    }

    /// Its checks; what does not apply to the kernel was not skipped.
    pub fn counts(&self) -> Counts {
        Counts {
            passed: self.count("ok"),
            failed: self.count("FAIL"),
            skipped: 0,
        }
    }

    /// Something was checked, nothing failed, and the guest reached its end.
    pub fn is_good(&self) -> bool {
        self.finished && self.count("FAIL") == 0 && self.count("ok") > 0
    }

    /// The failures, the tables and the counts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self
            .lines
            .iter()
            .filter(|line| line.get(2).is_some_and(|v| v == "FAIL"))
        {
            let _ = writeln!(text, "FAILED: {}", line.join(" | "));
        }
        if !self.finished {
            text.push_str("FAILED: the guest's run did not reach its end\n");
        }
        text.push_str(&self.tables);
        let _ = write!(
            text,
            "Linux {}: {} passed, {} failed, {} do not apply; {} s",
            self.version,
            self.count("ok"),
            self.count("FAIL"),
            self.count("-"),
            self.took.as_secs()
        );
        text
    }
}

/// Replaces our section of the page, or appends it.
pub fn write(page: &Path, reports: &[Report]) -> Result<()> {
    let old = fs::read_to_string(page).unwrap_or_else(|_| "# The gate\n".into());
    let mut section = String::from(INTRODUCTION);
    for report in reports {
        let version = &report.version;
        let tables = if report.kernel.is_fit {
            report.tables.as_str()
        } else {
            "Refused at start, as it must be: too old.\n"
        };
        let _ = write!(section, "\n### Linux {version}\n\n{tables}");
    }
    fs::write(page, replace(&old, &section)).with_context(|| format!("write {}", page.display()))
}

fn replace(page: &str, section: &str) -> String {
    let (before, after) = page.split_once(HEADING).unwrap_or((page, ""));
    let rest = after
        .find("\n## ")
        .and_then(|at| after.get(at..))
        .unwrap_or("\n");
    let (before, section) = (before.trim_end(), section.trim_end());
    format!("{before}\n\n{HEADING}\n{section}\n{rest}")
        .trim_end()
        .to_owned()
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_section_is_replaced() {
        let fresh = replace("# The gate\n\nText.\n", "\nnew\n");
        assert_eq!(fresh, format!("# The gate\n\nText.\n\n{HEADING}\n\nnew\n"));
        let page = format!("# The gate\n\n{HEADING}\n\nold\n\n## After\n\nkept\n");
        let again = replace(&page, "\nnew\n");
        assert_eq!(
            again,
            format!("# The gate\n\n{HEADING}\n\nnew\n\n## After\n\nkept\n")
        );
        assert_eq!(replace(&again, "\nnew\n"), again);
    }
}
