//! `cargo xtask test`: builds, then runs the unit, kernel and end-to-end tests, those in a
//! `cargo xtask test`: builds, then runs the unit, kernel and end-to-end tests, those in a
//! virtual machine with BPF LSM (one kernel; `cargo xtask vm-test` has the others), the fuzz
//! targets for a minute each, the quick ones of `cargo xtask compat`, and closes with plain
//! counts over all of them. `cargo xtask test drivers` runs the tests of that name and those
//! quick ones.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::test_counts::Counts;
use crate::{build, compat, fuzz, root, setup, vm_test};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the tests whose name contains this, no virtual machine and no fuzzing.
    filter: Option<String>,
}

/// A group of tests, and how cargo is told to run it.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "unit",
        &[
            "--workspace",
            "--exclude",
            "portcullis-ebpf",
            "--lib",
            "--bins",
        ],
    ),
    (
        "kernel",
        &["--package", "portcullis-tests", "--test", "kernel"],
    ),
    (
        "end-to-end",
        &["--package", "portcullis-tests", "--test", "e2e"],
    ),
];

/// Gives a group's counts, and whether it is good.
type Usual = fn() -> Result<(Counts, bool)>;

/// Groups that cargo does not run, and the filter that runs them too.
const ALONE: &[(&str, Option<&str>, Usual)] = &[
    ("virtual machine", None, vm_test::usual),
    ("fuzz", None, fuzz::usual),
    ("others'", Some("drivers"), compat::quick),
];

/// Runs them all; a failure in one group does not hide the others.
pub fn run(args: &Args) -> Result<()> {
    root::require(
        "test",
        "the kernel and end-to-end tests load programs into the kernel",
    )?;
    setup::run()?;
    build::daemon(false)?;
    let nextest = has_nextest();
    let mut total = Counts::default();
    let mut broken = Vec::new();
    for (group, words) in GROUPS {
        println!("\n=== {group} tests ===");
        let mut command = command(nextest, words, args.filter.as_deref());
        let (counts, succeeded) = stream(&mut command)?;
        total.add(counts);
        if !succeeded {
            broken.push(*group);
        }
    }
    for (group, filter, usual) in ALONE {
        if args.filter.is_some() && args.filter.as_deref() != *filter {
            continue;
        }
        println!("\n=== {group} tests ===");
        let (counts, succeeded) = usual()?;
        total.add(counts);
        if !succeeded {
            broken.push(*group);
        }
    }
    println!("\n{total}");
    ensure!(broken.is_empty(), "failed: {} tests", broken.join(", "));
    ensure!(total.passed > 0, "no test was run");
    Ok(())
}

fn has_nextest() -> bool {
    let mut version = build::cargo();
    version
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn command(nextest: bool, words: &[&str], filter: Option<&str>) -> Command {
    let mut command = build::cargo();
    if nextest {
        command
            .args(["nextest", "run", "--no-fail-fast", "--no-tests", "pass"])
            .args(words);
        command.args(filter);
    } else {
        command
            .args(["test", "--no-fail-fast"])
            .args(words)
            .args(filter);
        // Each end-to-end test runs a server, a daemon and agents: two at a time.
        command.args(["--", "--test-threads", "2"]);
    }
    command
}

/// Shows the output as it comes and counts its closing lines. nextest writes to standard
/// error, libtest to standard output, so the shell joins them.
fn stream(command: &mut Command) -> Result<(Counts, bool)> {
    let mut joined = Command::new("sh");
    joined
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(command.get_program());
    joined.args(command.get_args()).stdout(Stdio::piped());
    if let Some(dir) = command.get_current_dir() {
        joined.current_dir(dir);
    }
    let mut child = joined.spawn().context("start cargo")?;
    let output = child.stdout.take().context("no output pipe")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.add(Counts::of_line(&line));
    }
    let status = child.wait().context("wait for cargo")?;
    if status.code().is_none() {
        bail!("cargo was ended by a signal: {status}");
    }
    Ok((counts, status.success()))
}
