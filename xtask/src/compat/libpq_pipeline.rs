//! libpq_pipeline: libpq's pipeline mode, and the messages that it sends and gets.
//!
//! A test with a trace passes only if its messages are those of the expected trace, so that
//! the gate may not add, drop or reorder one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::results::{Both, Outcome, Results};
use super::sources::Sources;
use super::world::{Plan, Tools, World};

/// Rows of the tests that want many.
const ROWS: &str = "700";

/// Runs it.
pub fn play(tools: &Tools) -> Result<Both> {
    let sources = Sources::fetch(tools)?;
    let plan = Plan {
        setup: sources.setup(""),
        ..Plan::default()
    };
    tools.both(sources.short_version().into(), &plan, |world| {
        run(world, &sources)
    })
}

fn run(world: &World, sources: &Sources) -> Result<Results> {
    let dir = sources.tests.join("modules/libpq_pipeline");
    let program = dir.join("libpq_pipeline").display().to_string();
    let variables = sources.variables()?;
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let listed = world.run(&[&program, "tests"], &variables)?;
    ensure!(listed.code() == 0, "libpq_pipeline: {}", listed.both());
    let mut results = Results::default();
    for test in listed.stdout.lines() {
        let expected = dir.join("traces").join(format!("{test}.trace"));
        let trace = world.dir().join(format!("{test}.trace"));
        let trace_name = trace.display().to_string();
        let mut words = vec![program.as_str(), "-r", ROWS];
        if expected.exists() {
            words.extend(["-t", &trace_name]);
        }
        words.extend([test, "user=postgres dbname=postgres"]);
        let done = world.run(&words, &variables)?;
        let mut passed = done.code() == 0;
        if !passed {
            println!("{test}: {}", done.both().trim());
        }
        if passed && expected.exists() {
            passed = same(&expected, &trace)?;
        }
        results.add(test, Outcome::of(passed));
    }
    Ok(results)
}

/// Whether two traces are the same but for blanks at the ends of lines.
fn same(expected: &Path, seen: &Path) -> Result<bool> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let (expected, seen) = (read(expected)?, read(seen)?);
    let mut expected = expected.lines().map(str::trim_end);
    let mut seen = seen.lines().map(str::trim_end);
    for number in 1.. {
        match (expected.next(), seen.next()) {
            (None, None) => break,
            (expected, seen) if expected == seen => {}
            (expected, seen) => {
                println!("trace line {number}: {expected:?} expected, {seen:?} seen");
                return Ok(false);
            }
        }
    }
    Ok(true)
}
