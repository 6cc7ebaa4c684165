//! asyncpg's own tests, which are in its source distribution, with the same version built.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::fetch::{check, once, only, pip, venv};
use super::results::{Both, Outcome, Results};
use super::world::{Plan, Tools, World};

const VERSION: &str = "0.32.0";
/// What its tests need beside it.
const BESIDE: &[&str] = &["pytest", "distro"];

/// Fetches and runs them.
pub fn play(tools: &Tools) -> Result<Both> {
    let dir = tools.dir.join("asyncpg");
    once(&dir, &format!("{VERSION} {}", BESIDE.join(" ")), |dir| {
        let package = format!("asyncpg=={VERSION}");
        let packages = [&[package.as_str()], BESIDE].concat();
        let python = venv(&dir.join("venv"), &packages)?;
        let mut download = pip(&python);
        download.args([
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "asyncpg",
            &package,
        ]);
        check(download.current_dir(dir))?;
        let mut tar = Command::new("tar");
        tar.arg("xf").arg(only(dir, ".tar.gz")?).args([
            "--strip-components=1",
            "--wildcards",
            "*/tests",
        ]);
        check(tar.current_dir(dir))?;
        Ok(())
    })?;
    let plan = Plan {
        setup: super::sources::Sources::fetch(tools)?.setup(""),
        ..Plan::default()
    };
    let dir = tools.near(&dir)?;
    tools.both(VERSION.into(), &plan, |world| run(world, &dir))
}

fn run(world: &World, dir: &Path) -> Result<Results> {
    let python = dir.join("venv/bin/python").display().to_string();
    let tests = dir.join("tests").display().to_string();
    let words = [
        python.as_str(),
        "-m",
        "pytest",
        "-v",
        "-rN",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        &tests,
    ];
    let done = world.run(&words, &[("PYTHONDONTWRITEBYTECODE", "1")])?;
    let log = world.dir().join("pytest.log");
    fs::write(&log, done.both()).context("write pytest.log")?;
    world.keep(&log, "asyncpg")?;
    let results: Results = done.stdout.lines().filter_map(outcome).collect();
    ensure!(
        results.counts().passed > 0,
        "it ran nothing: {}",
        done.both()
    );
    Ok(results)
}

/// A line of pytest's: `tests/test_a.py::TestA::test_b PASSED [ 1%]`.
fn outcome(line: &str) -> Option<(String, Outcome)> {
    let (test, rest) = line.split_once(' ')?;
    let (_, name) = test.split_once("::")?;
    let outcome = match rest.split_whitespace().next()? {
        "PASSED" | "XFAIL" => Outcome::Passed,
        "FAILED" | "ERROR" => Outcome::Failed,
        "SKIPPED" => Outcome::Skipped,
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pytests_lines() {
        let line = "../tests/test_copy.py::TestCopyFrom::test_a PASSED    [ 10%]";
        assert_eq!(
            outcome(line),
            Some(("TestCopyFrom::test_a".into(), Outcome::Passed))
        );
        assert_eq!(outcome("===== 309 passed in 49 s ====="), None);
    }
}
