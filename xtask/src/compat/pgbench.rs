//! pgbench in all modes: its own set-up, its built-in scripts, and a pipeline.
//!
//! A run passes when all its transactions are through and the tables say so too.

use std::fs;

use anyhow::{Context, Result};

use super::results::{Both, Outcome, Results};
use super::world::{Plan, Tools, World};

const CLIENTS: &str = "8";
const EACH: u32 = 50;
const ALL: u32 = 400;

/// Several statements before an answer is read; extended protocol only.
const PIPELINE: &str = "\\set id random(1, 100000)\n\\startpipeline\n\
    UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :id;\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :id;\n\
    INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :id, 1, now());\n\
    \\endpipeline\n";

/// Runs them.
pub fn play(tools: &Tools) -> Result<Both> {
    let plan = Plan::default();
    let bin = portcullis_tests::paths::postgres_bin()?;
    let version = super::fetch::check(std::process::Command::new(bin.join("pgbench")).arg("-V"))?;
    let version = version
        .split_whitespace()
        .nth(2)
        .unwrap_or_default()
        .to_owned();
    tools.both(version, &plan, run)
}

fn run(world: &World) -> Result<Results> {
    let script = world.dir().join("pipeline.sql");
    fs::write(&script, PIPELINE).context("write the script")?;
    let script = script.display().to_string();
    let mut results = Results::default();
    let pgbench = world.server().bin().join("pgbench").display().to_string();
    let words = [&pgbench, "-i", "-s", "1", "--foreign-keys", "-q"];
    let done = world.run(&words, &[])?;
    results.add("initialize", Outcome::of(done.code() == 0));
    for mode in ["simple", "extended", "prepared"] {
        let mut kinds = vec![
            ("tpcb-like", vec!["-b", "tpcb-like"], true),
            ("simple-update", vec!["-N"], true),
            ("select-only", vec!["-S"], false),
            ("reconnect", vec!["-C", "-S"], false),
        ];
        if mode != "simple" {
            kinds.push(("pipeline", vec!["-f", script.as_str()], true));
        }
        for (kind, options, writes) in kinds {
            let passed = one(world, &pgbench, mode, &options, writes)?;
            results.add(&format!("{mode} {kind}"), Outcome::of(passed));
        }
    }
    Ok(results)
}

fn one(world: &World, pgbench: &str, mode: &str, options: &[&str], writes: bool) -> Result<bool> {
    let history = || {
        world
            .server()
            .sql("postgres", "SELECT count(*) FROM pgbench_history")
    };
    world.server().sql("postgres", "TRUNCATE pgbench_history")?;
    let each = EACH.to_string();
    let mut words = vec![
        pgbench, "-n", "-M", mode, "-c", CLIENTS, "-j", "2", "-t", &each,
    ];
    words.extend(options);
    let done = world.run(&words, &[])?;
    let processed = format!("processed: {ALL}/{ALL}");
    let failed = "number of failed transactions: 0 ";
    let whole =
        done.code() == 0 && done.stdout.contains(&processed) && done.stdout.contains(failed);
    if !whole {
        println!("{mode} {options:?}: {}", done.both());
    }
    let expected = if writes { ALL } else { 0 };
    Ok(whole && history()? == expected.to_string())
}
