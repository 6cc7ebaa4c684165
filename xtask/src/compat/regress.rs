//! PostgreSQL's regression suite (the parallel schedule) and its isolation suite.
//!
//! The suites look for files of theirs on the server's side too: server and agent are on
//! one machine, and the directory of results is everybody's.

use std::path::Path;

use anyhow::{Result, ensure};
use portcullis_tests::process::tail;

use super::results::{Both, Outcome, Results};
use super::sources::Sources;
use super::world::{Plan, Tools, World};

/// Runs the regression suite.
pub fn regression(tools: &Tools) -> Result<Both> {
    let sources = Sources::fetch(tools)?;
    let plan = Plan {
        setup: sources.setup("max_prepared_transactions = 20\nwal_level = logical\n"),
        ..Plan::default()
    };
    tools.both(sources.short_version().into(), &plan, |world| {
        let runner = sources.runner("regress/pg_regress");
        run(world, &sources, &runner, "regress", "parallel_schedule")
    })
}

/// Runs the isolation suite.
pub fn isolation(tools: &Tools) -> Result<Both> {
    let sources = Sources::fetch(tools)?;
    let plan = Plan {
        setup: sources.setup("max_prepared_transactions = 20\nwal_level = logical\n"),
        ..Plan::default()
    };
    tools.both(sources.short_version().into(), &plan, |world| {
        let runner = sources.runner("isolation/pg_isolation_regress");
        run(world, &sources, &runner, "isolation", "isolation_schedule")
    })
}

fn run(
    world: &World,
    sources: &Sources,
    runner: &Path,
    suite: &str,
    schedule: &str,
) -> Result<Results> {
    let out = world.make_dir("out")?;
    world.make_dir("out/results")?;
    let input = sources.tests.join(suite);
    let words = [
        runner.display().to_string(),
        "--host=127.0.0.1".into(),
        format!("--port={}", world.port()),
        "--user=postgres".into(),
        format!("--inputdir={}", input.display()),
        format!("--outputdir={}", out.display()),
        format!("--dlpath={}", sources.tests.join("regress").display()),
        "--bindir=".into(),
        format!("--schedule={}", input.join(schedule).display()),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let variables = sources.variables()?;
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let done = world.run(&words, &variables)?;
    let results: Results = done.stdout.lines().filter_map(outcome).collect();
    let diffs = out.join("regression.diffs");
    if diffs.exists() {
        world.keep(&diffs, suite)?;
        println!("{}", tail(&diffs, 40));
    }
    ensure!(
        results.counts().passed > 0,
        "it ran nothing: {}",
        done.both()
    );
    Ok(results)
}

/// A line of the runner's: `test boolean ... ok 12 ms`, alone or in a group.
fn outcome(line: &str) -> Option<(String, Outcome)> {
    let (name, result) = line.split_once(" ... ")?;
    let name = name.trim();
    let name = name.strip_prefix("test ").unwrap_or(name).trim();
    let outcome = match result.split_whitespace().next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "failed" => Outcome::Skipped,
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_runners_lines() {
        let passed = |name: &str| Some((name.to_owned(), Outcome::Passed));
        assert_eq!(
            outcome("test tablespace                   ... ok          131 ms"),
            passed("tablespace")
        );
        assert_eq!(
            outcome("     boolean                      ... ok           90 ms"),
            passed("boolean")
        );
        assert_eq!(
            outcome("     char                         ... FAILED       77 ms"),
            Some(("char".into(), Outcome::Failed))
        );
        assert_eq!(outcome("parallel group (2 tests):  a b"), None);
        assert_eq!(outcome("============== shutting down =========="), None);
    }
}
