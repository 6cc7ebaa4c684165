//! `cargo xtask bench run`: from `portcullis run` to the agent's first instruction, put
//! into `docs/benchmarks.md`.
//!
//! The agent's command prints the kernel's clock and ends; the same clock is read before
//! it is started. The same command without Portcullis is measured in turn.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use portcullis_tests::agent::Agent;
use portcullis_tests::daemon::{Daemon, Options};
use portcullis_tests::paths::workspace;
use portcullis_tests::{process, shop};

use crate::bench_report::{machine, put_between};
use crate::{build, root, setup};

const OUTPUT: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- run:begin -->";
const END: &str = "<!-- run:end -->";
const ROUNDS: usize = 100;
/// Reads the clock as its first instruction that can be seen: perl is on every Debian.
const FIRST: [&str; 3] = [
    "perl",
    "-e",
    "use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC); print clock_gettime(CLOCK_MONOTONIC)",
];

/// Measures, prints and writes it.
pub fn run() -> Result<()> {
    root::require("bench run", "it starts a daemon that loads programs")?;
    setup::run()?;
    let binaries = build::daemon(true)?;
    let server = shop::server()?;
    let policy = shop::policy(server.port())?;
    let options = Options::new(policy, server.agent_password());
    let daemon = Daemon::start(&binaries, &options)?;
    let agent = Agent::new(&daemon, "analyst");
    let (mut plain, mut held) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut command = Command::new(FIRST[0]);
        plain.push(first_instruction(command.args(&FIRST[1..]))?);
        held.push(first_instruction(&mut agent.command(&FIRST))?);
    }
    let (plain, held) = (Times::of(plain), Times::of(held));
    let text = format!(
        "`cargo xtask bench run`; {ROUNDS} rounds; {}.\n\n\
         | from the start to the command's first instruction | median ms | 95 of 100 within ms |\n\
         |---|--:|--:|\n| the command alone | {:.1} | {:.1} |\n\
         | `portcullis run --as NAME -- COMMAND` as root | {:.1} | {:.1} |\n\n\
         Added at the median: {:.1} ms (aim: under 20).\n",
        machine()?,
        plain.median,
        plain.most,
        held.median,
        held.most,
        held.median - plain.median
    );
    println!("{text}");
    let path = workspace().join(OUTPUT);
    let old = fs::read_to_string(&path).with_context(|| format!("read {OUTPUT}"))?;
    let new = put_between(&old, BEGIN, END, &text)?;
    fs::write(&path, new).with_context(|| format!("write {OUTPUT}"))?;
    println!("written to {OUTPUT}");
    Ok(())
}

fn first_instruction(command: &mut Command) -> Result<f64> {
    let before = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    let done = process::run(command, "", Duration::from_secs(20))?;
    ensure!(done.code() == 0, "{}", done.both());
    let after: f64 = done.stdout.trim().parse().context("the clock's answer")?;
    Ok((after - before.as_secs_f64()) * 1000.0)
}

struct Times {
    median: f64,
    most: f64,
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 100).copied();
        Self {
            median: at(50).unwrap_or(f64::NAN),
            most: at(95).unwrap_or(f64::NAN),
        }
    }
}
