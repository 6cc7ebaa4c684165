//! The daemon's system calls for each transaction of pgbench, counted by strace.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use portcullis_tests::process::Process;
use tempfile::NamedTempFile;

use crate::bench_postgres::Stage;
use crate::bench_report::{Mode, Way};

const CLIENTS: [u32; 2] = [1, 8];
const SECONDS: u32 = 4;
/// Calls that are rarer than this for each transaction are not shown.
const RARE: f64 = 0.01;

/// Counts, as a table. Under strace all is slower, and so more of it waits together.
pub fn measure(stage: &Stage) -> Result<String> {
    let mut text = format!(
        "`strace -f -c` on the daemon during `pgbench -S -M prepared -T {SECONDS}`.\n\n\
         | clients | system calls for each transaction |\n|--:|---|\n"
    );
    for clients in CLIENTS {
        if let Some(pid) = stage
            .daemon(Way::Portcullis)
            .and_then(|daemon| daemon.pid())
        {
            let calls = count(stage, pid, clients)?;
            writeln!(text, "| {clients} | {} |", words(&calls))?;
        }
    }
    Ok(text)
}

fn count(stage: &Stage, pid: u32, clients: u32) -> Result<BTreeMap<String, f64>> {
    let output = NamedTempFile::new().context("temporary file")?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-p", &pid.to_string(), "-o"]);
    strace.arg(output.path());
    let mut strace = Process::spawn(&mut strace, Signal::SIGINT)?;
    // It may still be attaching for a moment: that is not counted either way.
    let run = stage.pgbench(Way::Portcullis, Mode::Prepared, clients, SECONDS)?;
    strace.stop(Signal::SIGINT)?;
    let text = std::fs::read_to_string(output.path()).context("strace's table")?;
    Ok(read(&text, run.tps * f64::from(SECONDS)))
}

/// `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn read(table: &str, transactions: f64) -> BTreeMap<String, f64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, calls, .., name] = words.as_slice() else {
            return None;
        };
        let calls: f64 = calls.parse().ok()?;
        let each = calls / transactions;
        (*name != "total" && each >= RARE).then(|| ((*name).to_owned(), each))
    };
    table.lines().filter_map(row).collect()
}

fn words(calls: &BTreeMap<String, f64>) -> String {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by(|a, b| b.1.total_cmp(a.1));
    let words: Vec<_> = calls
        .iter()
        .map(|(name, each)| format!("{each:.2} `{name}`"))
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_straces_table() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     60.00    1.000000           1      2000           sendto\n \
                     30.00    0.500000           1      1000       200 recvfrom\n \
                     10.00    0.100000           1         1           close\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    1.600000           1      3001       200 total\n";
        let calls = read(table, 1000.0);
        assert_eq!(words(&calls), "2.00 `sendto`, 1.00 `recvfrom`");
    }
}
