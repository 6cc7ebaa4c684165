//! Decisions in the journal, with fields to filter by, read back by the real journalctl.

use std::process::Command;
use std::time::Duration;

use portcullis_tests::audit::text;
use portcullis_tests::paths::fixture;
use portcullis_tests::{process, wait};
use serde_json::Value;

use crate::stage::{Stage, inside};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn decisions_reach_the_journal() {
    let mut command = Command::new(fixture("with-journald.sh"));
    command.args(inside("journald::decisions_reach_the_journal_inside"));
    let done = process::run(&mut command, "", LIMIT).expect("runs");
    assert_eq!(done.code(), 0, "{}", done.both());
    assert!(done.stdout.contains("1 passed"), "{}", done.stdout);
}

#[test]
#[ignore = "the inside half of `decisions_reach_the_journal`"]
fn decisions_reach_the_journal_inside() {
    let stage = Stage::with(|options| options.journald = "auto");
    stage.assert_works();
    assert_ne!(stage.psql("DELETE FROM customers").code(), 0);
    let entry = wait::until("the journal's entry", Duration::from_secs(20), || {
        Ok(journal()?
            .into_iter()
            .find(|entry| entry.to_string().contains("DELETE FROM customers")))
    })
    .expect("entry");
    // Fields of our own, so that `journalctl FIELD=value` finds it.
    let own = |value: &str| {
        let fields = entry.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !name.starts_with('_'))
            .any(|(_, field)| field == value)
    };
    assert!(own("analyst") && own("deny") && own("shop"), "{entry}");
    let pid = stage.daemon.pid().expect("runs").to_string();
    assert_eq!(text(&entry, "_PID"), pid, "{entry}");
}

fn journal() -> anyhow::Result<Vec<Value>> {
    let mut command = Command::new("journalctl");
    let words = ["-o", "json", "--no-pager", "-q", "_COMM=portcullisd"];
    let output = process::check(command.args(words), "", Duration::from_secs(10))?;
    Ok(output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}
