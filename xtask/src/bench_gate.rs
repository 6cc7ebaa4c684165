//! `cargo xtask bench gate`: what the hooks cost, measured by the kernel tests' own
//! `cost` module with and without the gate in turn, and put into `docs/benchmarks.md`.

use std::collections::HashMap;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use portcullis_tests::paths::workspace;

use crate::bench_report::{machine, put_between};
use crate::{build, root, setup};

const OUTPUT: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- gate:begin -->";
const END: &str = "<!-- gate:end -->";

/// Measures, prints the table and writes it into `docs/benchmarks.md`.
pub fn run() -> Result<()> {
    root::require("bench gate", "it loads programs into the kernel")?;
    setup::run()?;
    let words = [
        "test",
        "--quiet",
        "--package",
        "portcullis-tests",
        "--test",
        "kernel",
        "--",
        "--exact",
        "cost::of_the_gate",
        "--ignored",
        "--nocapture",
    ];
    let mut cargo = build::cargo();
    cargo.args(words).stderr(Stdio::inherit());
    let done = cargo.output().context("start cargo")?;
    let output = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "the measurement failed: {output}");
    let table = table(&Measured::read(&output), &machine()?)?;
    println!("{table}");
    let path = workspace().join(OUTPUT);
    let old = fs::read_to_string(&path).with_context(|| format!("read {OUTPUT}"))?;
    let new = put_between(&old, BEGIN, END, &table)?;
    fs::write(&path, new).with_context(|| format!("write {OUTPUT}"))?;
    println!("written to {OUTPUT}");
    Ok(())
}

struct Measured(HashMap<String, f64>);

impl Measured {
    /// Lines `@@gate NAME VALUE`.
    fn read(output: &str) -> Self {
        let pairs = output.lines().filter_map(|line| {
            let (_, rest) = line.split_once("@@gate ")?;
            let (name, value) = rest.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    fn value(&self, name: &str) -> Result<f64> {
        let value = self.0.get(name).copied();
        value.with_context(|| format!("`{name}` was not measured"))
    }
}

fn table(measured: &Measured, machine: &str) -> Result<String> {
    let micros = |name| measured.value(name).map(|nanos| nanos / 1000.0);
    let (connect, gated) = (micros("connects_without")?, micros("connects_with")?);
    let mut text = format!(
        "`cargo xtask bench gate`; {machine}.\n\n\
         | what | without | with | | aim |\n|---|--:|--:|--:|--:|\n\
         | connect(), median | {connect:.1} µs | {gated:.1} µs | {:+.1} µs | +5 µs |\n",
        gated - connect,
    );
    for (direction, what) in [("send", "agent to gate"), ("receive", "gate to agent")] {
        let without = measured.value(&format!("{direction}_without"))?;
        let with = measured.value(&format!("{direction}_with"))?;
        text.push_str(&format!(
            "| bulk on the loopback, {what} | {without:.0} MB/s | {with:.0} MB/s | {:.2} | 0.95 |\n",
            with / without
        ));
    }
    let value = |name| measured.value(name);
    text.push_str(&format!(
        "\n1,000 sessions: {:.0} µs each to make and open (median; 99 of 100 within {:.0} µs), \
         {:.1} KiB of kernel memory each, nearly all of it the cgroup. Putting the gate up \
         takes {:.0} ms; its maps take {:.1} MiB whatever the number of sessions.\n",
        value("session_us")?,
        value("session_p99_us")?,
        value("session_kib")?,
        value("start_ms")?,
        value("maps_kib")? / 1024.0,
    ));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 1 test\n@@gate connects_without 14000.0\n\
        test x ... @@gate connects_with 17500.0\n@@gate send_without 3000\n@@gate send_with 2940\n\
        @@gate receive_without 3000\n@@gate receive_with 3030\n@@gate session_us 30\n\
        @@gate session_p99_us 70\n@@gate session_kib 9.1\n@@gate start_ms 180\n\
        @@gate maps_kib 3468\n";

    #[test]
    fn reads_the_lines_and_compares() {
        let text = table(&Measured::read(OUTPUT), "a machine").expect("all measured");
        assert!(text.contains("| 14.0 µs | 17.5 µs | +3.5 µs |"), "{text}");
        assert!(
            text.contains("agent to gate | 3000 MB/s | 2940 MB/s | 0.98 |"),
            "{text}"
        );
        assert!(text.contains("3.4 MiB"), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        let part = OUTPUT.replace("send_with ", "sent_with ");
        let error = table(&Measured::read(&part), "m").expect_err("one is missing");
        assert!(error.to_string().contains("send_with"), "{error}");
    }
}
