//! tokio-postgres' own tests, which are in its crate.
//!
//! They are written for a server at localhost:5433, so that is where their server is; the
//! gate catches the agent's connections to it all the same. Direct they have users of
//! every kind of login; through the gate they log in as the service's one user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portcullis_tests::postgres::Setup;
use serde_json::Value;

use super::fetch::{check, once};
use super::results::{Both, Outcome, Results};
use super::world::{Plan, Tools, World};
use crate::build;

const PORT: u16 = 5433;
const USERS: &str = "
    SET password_encryption TO 'md5'; CREATE ROLE md5_user PASSWORD 'password' LOGIN;
    SET password_encryption TO 'scram-sha-256'; CREATE ROLE pass_user PASSWORD 'password' LOGIN;
    CREATE ROLE scram_user PASSWORD 'password' LOGIN; CREATE ROLE ssl_user LOGIN;
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
";
const HBA: &str = "local all all scram-sha-256
host all pass_user 127.0.0.1/32 password
host all md5_user 127.0.0.1/32 md5
host all scram_user 127.0.0.1/32 scram-sha-256
host all ssl_user 127.0.0.1/32 reject
host all postgres 127.0.0.1/32 trust
";

/// Builds and runs them.
pub fn play(tools: &Tools) -> Result<Both> {
    let package = package()?;
    let version = package["version"].as_str().context("a version")?.to_owned();
    let dir = tools.dir.join("tokio-postgres");
    let stamp = format!("tokio-postgres {version}");
    once(&dir, &stamp, |dir| {
        let manifest = Path::new(package["manifest_path"].as_str().context("a manifest")?);
        let from = manifest.parent().context("a directory")?;
        let mut copy = Command::new("cp");
        check(copy.arg("-r").arg(from).arg(dir.join("crate")))?;
        // A workspace of its own, whatever it stands in.
        let own = dir.join("crate/Cargo.toml");
        let text = fs::read_to_string(&own).context("read the manifest")?;
        fs::write(&own, text + "\n[workspace]\n").context("write the manifest")?;
        fs::copy(build_tests(dir)?, dir.join("tests"))
            .context("copy the tests")
            .map(drop)
    })?;
    let plan = Plan {
        setup: Setup {
            port: Some(PORT),
            ..Setup::default()
        },
        hba: Some(HBA.into()),
        sql: USERS.into(),
    };
    let tests = tools.near(&dir.join("tests"))?.display().to_string();
    tools.both(version, &plan, |world| run(world, &tests))
}

/// What cargo knows of the crate, which our own tests use too.
fn package() -> Result<Value> {
    let all = check(build::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let mut all: Value = serde_json::from_str(&all).context("cargo metadata")?;
    let packages = all["packages"].as_array_mut().context("packages")?;
    let found = packages
        .iter_mut()
        .find(|package| package["name"] == "tokio-postgres");
    found
        .map(Value::take)
        .context("no tokio-postgres among the packages")
}

/// Builds them without a debugger's tables, to spare the disk; the program.
fn build_tests(dir: &Path) -> Result<PathBuf> {
    let mut cargo = build::cargo();
    cargo.current_dir(dir.join("crate"));
    cargo.args([
        "test",
        "--test",
        "test",
        "--no-run",
        "--message-format",
        "json",
    ]);
    cargo
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    let said = check(&mut cargo)?;
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter_map(|it| it["executable"].as_str().map(PathBuf::from));
    programs.next().context("cargo built no tests")
}

fn run(world: &World, tests: &str) -> Result<Results> {
    let done = world.run(&[tests, "--test-threads", "4"], &[])?;
    let results: Results = done.stdout.lines().filter_map(outcome).collect();
    let counts = results.counts();
    if counts.failed > 0 {
        println!("{}", failures(&done.stdout));
    }
    ensure!(counts.passed > 0, "it ran nothing: {}", done.both());
    Ok(results)
}

/// From the first failure on, without libtest's list of all tests.
fn failures(stdout: &str) -> &str {
    stdout.find("failures:").map_or("", |at| &stdout[at..])
}

/// A line of libtest's: `test name ... ok`.
fn outcome(line: &str) -> Option<(String, Outcome)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match result.split([' ', ',']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Skipped,
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libtests_lines() {
        assert_eq!(
            outcome("test types::test_bool ... ok"),
            Some(("types::test_bool".into(), Outcome::Passed))
        );
        assert_eq!(
            outcome("test a ... ignored, why"),
            Some(("a".into(), Outcome::Skipped))
        );
        assert_eq!(outcome("test result: ok. 3 passed"), None);
    }
}
