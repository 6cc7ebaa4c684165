//! 2,000 connections at once: how fast they are opened, and what an idle one costs.

use std::fmt::Write;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use portcullis_tests::daemon::Daemon;
use portcullis_tests::process::Process;
use portcullis_tests::wait;
use tempfile::NamedTempFile;

use crate::bench_postgres::Stage;
use crate::bench_report::Way;

const CONNECTIONS: u32 = 2000;
const OPENING: Duration = Duration::from_secs(300);
/// How long they are idle, seconds.
const IDLE: u32 = 6;

/// Measures, as a table.
pub fn measure(mut stage: Stage) -> Result<String> {
    let most = CONNECTIONS + 100;
    let set = format!("ALTER SYSTEM SET max_connections = {most}");
    stage.server.sql("postgres", &set)?;
    stage.server.stop()?;
    stage.server.start_again()?;
    let mut text = format!(
        "`pgbench -c {CONNECTIONS} -j 2` with a script that sleeps.\n\n\
         | way | connections opened each second | idle, KiB each |\n|---|--:|--:|\n"
    );
    let ways: Vec<_> = stage.ways().collect();
    for way in ways {
        let (rate, memory) = once(&stage, way)?;
        let memory = memory.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0));
        println!("{CONNECTIONS} connections, {way}: {rate:.0} a second, {memory} KiB each");
        writeln!(text, "| {way} | {rate:.0} | {memory} |")?;
    }
    Ok(text)
}

/// How many connections are opened each second, and the bytes that the daemon holds for each.
fn once(stage: &Stage, way: Way) -> Result<(f64, Option<f64>)> {
    let mut script = NamedTempFile::new().context("temporary file")?;
    writeln!(script, "\\sleep {IDLE} s").context("write the script")?;
    let path = script.path().display().to_string();
    let connections = CONNECTIONS.to_string();
    let words = ["-n", "-c", &connections, "-j", "2", "-t", "1", "-f", &path];
    let output = NamedTempFile::new().context("temporary file")?;
    let mut command = stage.client(way, "pgbench", &words);
    command
        .stdout(output.reopen().context("reopen")?)
        .stderr(output.reopen().context("reopen")?);
    let daemon = stage.daemon(way);
    let before = daemon.map(resident).transpose()?;
    let mut pgbench = Process::spawn(&mut command, Signal::SIGTERM)?;
    let mut samples = Vec::new();
    wait::until("pgbench to end", OPENING, || {
        if let Some(daemon) = daemon {
            samples.push((Instant::now(), resident(daemon)?));
        }
        pgbench.ended()
    })?;
    let said = fs::read_to_string(output.path()).context("pgbench's output")?;
    let millis = said
        .lines()
        .find_map(|line| line.strip_prefix("initial connection time = "))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .with_context(|| format!("no connection time in pgbench's output: {said}"))?;
    let end = Instant::now();
    // In the middle of their sleep.
    let middle = Duration::from_secs(u64::from(IDLE) / 2);
    let idle = samples
        .iter()
        .find(|(at, _)| end.duration_since(*at) <= middle);
    let each = idle
        .zip(before)
        .map(|((_, during), before)| (during - before) / f64::from(CONNECTIONS));
    Ok((f64::from(CONNECTIONS) * 1000.0 / millis, each))
}

/// The daemon's resident memory, bytes.
fn resident(daemon: &Daemon) -> Result<f64> {
    let pid = daemon.pid().context("the daemon does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("no VmRSS")? * 1024.0)
}
