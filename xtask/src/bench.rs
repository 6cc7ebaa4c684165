//! `cargo xtask bench`: `pgbench -S -M prepared` direct, through PgBouncer (session mode)
//! and through Portcullis, in turn, so that a busy moment of the machine hits all three.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_tests::agent::Agent;
use portcullis_tests::daemon::{Daemon, Options};
use portcullis_tests::paths::{fixture, workspace};
use portcullis_tests::pgbouncer::PgBouncer;
use portcullis_tests::postgres::PostgresServer;
use portcullis_tests::{process, shop};

use crate::bench_report::{Report, Run, Way};
use crate::{bench_gate, bench_run, build, root, setup};

const DATABASE: &str = "bench";
const CLIENTS: &[u32] = &[1, 8];
const OUTPUT: &str = "docs/benchmarks.md";

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// How often each is taken; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// pgbench's scale factor: 100,000 rows each.
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// Only direct and PgBouncer, without building the daemon; writes nothing.
    #[arg(long)]
    baseline: bool,
}

/// Something else than pgbench.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum What {
    /// Measure connect(), bulk and sessions with the kernel hooks and without.
    Gate,
    /// Measure how long `portcullis run` takes to start a command.
    Run,
}

/// Measures, prints the table and writes it into `docs/benchmarks.md`.
pub fn run(args: &Args) -> Result<()> {
    match args.what {
        Some(What::Gate) => return bench_gate::run(),
        Some(What::Run) => return bench_run::run(),
        None => {}
    }
    root::require(
        "bench",
        "it loads programs into the kernel and runs servers",
    )?;
    setup::run()?;
    let binaries = if args.baseline {
        None
    } else {
        Some(build::daemon(true)?)
    };
    let server = server(args.scale)?;
    let bouncer = PgBouncer::start(&server)?;
    let daemon = match &binaries {
        Some(binaries) => {
            let policy = fs::read_to_string(fixture("bench.yaml")).context("read bench.yaml")?;
            let policy = shop::at_port(&policy, server.port())?;
            Some(Daemon::start(
                binaries,
                &Options::new(policy, server.agent_password()),
            )?)
        }
        None => None,
    };
    let bench = Bench {
        args,
        server: &server,
        bouncer: &bouncer,
        daemon: daemon.as_ref(),
    };
    let report = bench.measure()?;
    println!("\n{report}");
    if args.baseline {
        return Ok(());
    }
    let path = workspace().join(OUTPUT);
    let old = fs::read_to_string(&path).with_context(|| format!("read {OUTPUT}"))?;
    fs::write(&path, report.put_into(&old)?).with_context(|| format!("write {OUTPUT}"))?;
    println!("written to {OUTPUT}");
    Ok(())
}

fn server(scale: u32) -> Result<PostgresServer> {
    let server = PostgresServer::start()?;
    let password = server.agent_password();
    server.sql(
        "postgres",
        &format!("CREATE ROLE agent_ro LOGIN PASSWORD '{password}'"),
    )?;
    server.sql(
        "postgres",
        &format!("CREATE DATABASE {DATABASE} OWNER agent_ro"),
    )?;
    let mut init = Command::new(server.bin().join("pgbench"));
    init.args([
        "-i",
        "-q",
        "-s",
        &scale.to_string(),
        "-h",
        "127.0.0.1",
        "-U",
        "agent_ro",
    ]);
    init.args(["-p", &server.port().to_string(), DATABASE])
        .env("PGPASSWORD", password);
    process::check(&mut init, "", Duration::from_secs(600))?;
    Ok(server)
}

struct Bench<'a> {
    args: &'a Args,
    server: &'a PostgresServer,
    bouncer: &'a PgBouncer,
    daemon: Option<&'a Daemon>,
}

impl Bench<'_> {
    fn measure(&self) -> Result<Report> {
        let ways: &[Way] = match self.daemon {
            Some(_) => &[Way::Direct, Way::PgBouncer, Way::Portcullis],
            None => &[Way::Direct, Way::PgBouncer],
        };
        let mut runs = Vec::new();
        for &clients in CLIENTS {
            // One short run each, not counted: caches, and the analysis of the statement.
            for &way in ways {
                self.pgbench(way, clients, 1)?;
            }
            for round in 1..=self.args.rounds {
                for &way in ways {
                    let run = self.pgbench(way, clients, self.args.seconds)?;
                    println!(
                        "round {round}, {clients} clients, {way}: {:.0} tps, {:.3} ms",
                        run.tps, run.latency_ms
                    );
                    runs.push(run);
                }
            }
        }
        let command = format!("cargo xtask bench --seconds {}", self.args.seconds);
        Report::new(command, self.args.rounds, runs)
    }

    fn pgbench(&self, way: Way, clients: u32, seconds: u32) -> Result<Run> {
        let program = self.server.bin().join("pgbench").display().to_string();
        let (threads, clients_text) = (clients.min(2).to_string(), clients.to_string());
        let port = match way {
            Way::PgBouncer => self.bouncer.port(),
            // The agent names the server itself; the gate is in between all the same.
            Way::Direct | Way::Portcullis => self.server.port(),
        };
        let (port, seconds_text) = (port.to_string(), seconds.to_string());
        let words = [
            program.as_str(),
            "-n",
            "-S",
            "-M",
            "prepared",
            "-c",
            &clients_text,
            "-j",
            &threads,
            "-T",
            &seconds_text,
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "agent_ro",
            DATABASE,
        ];
        let mut command = match (way, self.daemon) {
            (Way::Portcullis, Some(daemon)) => {
                // The server has no TLS either.
                let agent = Agent::new(daemon, "bench").env("PGSSLMODE", "disable");
                agent.command(&words)
            }
            _ => {
                let mut command = Command::new(&program);
                command
                    .args(&words[1..])
                    .env("PGPASSWORD", self.server.agent_password());
                command
            }
        };
        let limit = Duration::from_secs(u64::from(seconds) + 60);
        let output = process::check(&mut command, "", limit)?;
        let run = Run::read(way, clients, &output)?;
        ensure!(run.tps > 0.0, "pgbench did nothing: {output}");
        Ok(run)
    }
}
