//! `cargo xtask demo`: the whole thing on one machine in one command.
//!
//! Installs what is missing, builds, starts a private PostgreSQL and a daemon of its own,
//! lets an agent without settings or password try things, shows what it saw and what was
//! recorded, and checks that nothing is left behind. A step that did not go as expected
//! fails the demo.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use portcullis_tests::agent::{Agent, Shell};
use portcullis_tests::daemon::{Daemon, Options};
use portcullis_tests::leftovers::{self, Leftovers};
use portcullis_tests::paths::workspace;
use portcullis_tests::postgres::PostgresServer;
use portcullis_tests::shop;

use crate::demo_steps::{self, Step};
use crate::{build, root, setup};

/// The sample policy that the demo loads.
const POLICY: &str = "policies/library/shop.yaml";
/// Whom the agent runs as; a role of the sample policy has this name.
const PRINCIPAL: &str = "analyst";

/// Runs the demo.
pub fn run() -> Result<()> {
    root::require("demo", "it loads programs into the kernel")?;
    let start = Instant::now();
    println!("Portcullis demo. First: what is missing, and the build.");
    setup::run()?;
    let binaries = build::daemon(false)?;

    println!("\nA private PostgreSQL server with a small shop, and the daemon:");
    let server = shop::server()?;
    println!(
        "    PostgreSQL listens on 127.0.0.1:{}; it wants a password from everybody.",
        server.port()
    );
    let policy =
        fs::read_to_string(workspace().join(POLICY)).with_context(|| format!("read {POLICY}"))?;
    let policy = shop::at_port(&policy, server.port())?;
    let mut options = Options::new(policy, server.agent_password());
    options.for_nobody = true;
    let mut daemon = Daemon::start(&binaries, &options)?;
    println!(
        "    portcullisd is ready (pid {}), with {POLICY}.",
        daemon.pid().unwrap_or(0)
    );
    println!(
        "    The agent: a shell of the account `nobody` in an agent session as `{PRINCIPAL}`."
    );
    println!("    It has no settings for Portcullis and no password.");

    let failed = play(&mut daemon, &server)?;
    finish(daemon, server)?;
    println!("\nDone in {:.0} s.", start.elapsed().as_secs_f32());
    ensure!(
        failed.is_empty(),
        "steps that did not go as expected: {}",
        failed.join(", ")
    );
    Ok(())
}

/// Plays all steps; the titles of those that failed.
fn play(daemon: &mut Daemon, server: &PostgresServer) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    let mut shell = Agent::new(daemon, PRINCIPAL).as_nobody().shell()?;
    let elsewhere = demo_steps::Elsewhere::listen()?;
    let mut number = 0;
    let mut tell = |step: &Step, daemon: &Daemon, shell: &mut Shell| -> Result<()> {
        number += 1;
        println!("\n[{number}] {}", step.title);
        if let Err(problem) = step.play(daemon, shell) {
            println!("    NOT AS EXPECTED: {problem:#}");
            failed.push(format!("[{number}] {}", step.title));
        }
        Ok(())
    };
    let secret = daemon.path("secrets/shop");
    for step in demo_steps::live(server, &elsewhere, &secret, daemon.pid().unwrap_or(0)) {
        tell(&step, daemon, &mut shell)?;
    }
    daemon.kill9()?;
    println!("\n    -- the daemon is killed with SIGKILL; the agent's session goes on --");
    for step in demo_steps::dead(server, &elsewhere) {
        tell(&step, daemon, &mut shell)?;
    }
    daemon.launch()?;
    println!(
        "\n    -- the daemon is started again (pid {}) --",
        daemon.pid().unwrap_or(0)
    );
    for step in demo_steps::again(server) {
        tell(&step, daemon, &mut shell)?;
    }
    elsewhere.nobody_came()?;
    Ok(failed)
}

/// Ends everything and looks whether anything is left.
fn finish(mut daemon: Daemon, server: PostgresServer) -> Result<()> {
    println!("\nEnd: the agent's session, the daemon, its programs and the server.");
    let left = daemon.leftovers();
    let dir = daemon.path("");
    daemon.release()?;
    let after_release = left.find();
    drop(daemon);
    drop(server);
    let found: Vec<String> = after_release
        .into_iter()
        .chain(still_there(&left, &dir))
        .chain(children().into_iter().map(|pid| format!("process {pid}")))
        .collect();
    ensure!(found.is_empty(), "left behind: {}", found.join(", "));
    println!("    Checked: 0 processes, 0 pins, 0 cgroups, 0 mounts, 0 files left behind.");
    Ok(())
}

fn still_there(left: &Leftovers, dir: &Path) -> Vec<String> {
    let mut found = left.find();
    if leftovers::is_mount_point(&left.bpffs) {
        found.push(format!("mount {}", left.bpffs.display()));
    }
    if dir.exists() {
        found.push(format!("directory {}", dir.display()));
    }
    found
}

/// The processes whose parent we are.
fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name, which may hold anything: ") state ppid" (proc(5)).
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        (parent == own).then_some(pid)
    })
    .collect()
}
