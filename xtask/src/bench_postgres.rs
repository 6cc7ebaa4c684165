//! `cargo xtask bench postgres`: `pgbench -S` direct, through PgBouncer (session mode) and
//! through Portcullis, in turn, so that a busy moment of the machine hits all of them; then
//! bulk ([`bench_bulk`]) and many connections ([`bench_many`]) on the same stage.

use std::fs::{self, OpenOptions};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_tests::agent::Agent;
use portcullis_tests::daemon::{Daemon, Options};
use portcullis_tests::paths::{Binaries, fixture, workspace};
use portcullis_tests::pgbouncer::PgBouncer;
use portcullis_tests::postgres::PostgresServer;
use portcullis_tests::{process, shop};

use crate::bench::{Args, Part};
use crate::bench_report::{Mode, Report, Run, Way, machine, put_between};
use crate::{bench_bulk, bench_calls, bench_many, build, root, setup};

const DATABASE: &str = "bench";
const CLIENTS: &[u32] = &[1, 8, 64];
const OUTPUT: &str = "docs/benchmarks.md";
/// Rules beside those of the fixture: other tables of the same service, as a real policy has.
const OTHER_RULES: usize = 100;

/// Measures, prints the tables and writes them into `docs/benchmarks.md`.
pub fn run(args: &Args) -> Result<()> {
    root::require(
        "bench postgres",
        "it loads programs into the kernel and runs servers",
    )?;
    setup::run()?;
    let stage = Stage::new(args)?;
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut tables = Vec::new();
    if wanted(Part::Pgbench) {
        tables.push(("bench", measure(args, &stage)?.to_string()));
    }
    if wanted(Part::Calls) {
        tables.push(("calls", bench_calls::measure(&stage)?));
    }
    if wanted(Part::Bulk) {
        tables.push(("bulk", bench_bulk::measure(&stage, args.rounds)?));
    }
    // Last: the server is started anew for it.
    if wanted(Part::Many) {
        tables.push(("many", bench_many::measure(stage)?));
    }
    tables.iter().for_each(|(_, table)| println!("\n{table}"));
    if args.baseline || args.beside.is_some() {
        return Ok(());
    }
    write(&tables)
}

fn write(tables: &[(&str, String)]) -> Result<()> {
    let path = workspace().join(OUTPUT);
    let mut text = fs::read_to_string(&path).with_context(|| format!("read {OUTPUT}"))?;
    for (name, table) in tables {
        let begin = format!("<!-- {name}:begin -->");
        let end = format!("<!-- {name}:end -->");
        text = put_between(&text, &begin, &end, table)?;
    }
    fs::write(&path, text).with_context(|| format!("write {OUTPUT}"))?;
    println!("written to {OUTPUT}");
    Ok(())
}

/// What is measured, and against what.
pub struct Stage {
    pub server: PostgresServer,
    pub bouncer: PgBouncer,
    daemons: Vec<(Way, Daemon)>,
}

impl Stage {
    fn new(args: &Args) -> Result<Self> {
        let server = server(args.scale)?;
        let bouncer = PgBouncer::start(&server)?;
        let mut daemons = Vec::new();
        if let Some(dir) = &args.beside {
            let binaries = Binaries::in_dir(dir)?;
            daemons.push((Way::Beside, daemon(&binaries, &server)?));
        }
        if !args.baseline {
            let binaries = match &args.binaries {
                Some(dir) => Binaries::in_dir(dir)?,
                None => build::daemon(true)?,
            };
            daemons.push((Way::Portcullis, daemon(&binaries, &server)?));
        }
        Ok(Self {
            server,
            bouncer,
            daemons,
        })
    }

    /// The ways that can be gone.
    pub fn ways(&self) -> impl Iterator<Item = Way> {
        let daemons = self.daemons.iter().map(|(way, _)| *way);
        [Way::Direct, Way::PgBouncer].into_iter().chain(daemons)
    }

    /// The daemon on a way, if there is one.
    pub fn daemon(&self, way: Way) -> Option<&Daemon> {
        let mut daemons = self.daemons.iter();
        daemons
            .find(|(other, _)| *other == way)
            .map(|(_, daemon)| daemon)
    }

    /// A client program of the server on this way, with these words behind host and port.
    pub fn client(&self, way: Way, program: &str, words: &[&str]) -> Command {
        let program = self.server.bin().join(program).display().to_string();
        let port = match way {
            Way::PgBouncer => self.bouncer.port(),
            // The agent names the server itself; the gate is in between all the same.
            _ => self.server.port(),
        };
        let port = port.to_string();
        let first = [program.as_str(), "-h", "127.0.0.1", "-p", &port];
        let all: Vec<&str> = first
            .into_iter()
            .chain(["-U", "agent_ro"])
            .chain(words.iter().copied())
            .chain([DATABASE])
            .collect();
        match self.daemon(way) {
            // Nor has the server TLS: the same work on each way.
            Some(daemon) => Agent::new(daemon, "bench")
                .env("PGSSLMODE", "disable")
                .command(&all),
            None => {
                let mut command = Command::new(&program);
                command
                    .args(&all[1..])
                    .env("PGPASSWORD", self.server.agent_password());
                command
            }
        }
    }

    /// One measurement of pgbench.
    pub fn pgbench(&self, way: Way, mode: Mode, clients: u32, seconds: u32) -> Result<Run> {
        let (threads, clients_text) = (clients.min(2).to_string(), clients.to_string());
        let seconds_text = seconds.to_string();
        let words = [
            "-n",
            "-S",
            "-M",
            mode.name(),
            "-c",
            &clients_text,
            "-j",
            &threads,
            "-T",
            &seconds_text,
        ];
        let limit = Duration::from_secs(u64::from(seconds) + 60);
        let between = match way {
            Way::PgBouncer => Some(self.bouncer.pid()),
            _ => self.daemon(way).and_then(|daemon| daemon.pid()),
        };
        let before = between.map(processor).transpose()?;
        let output = process::check(&mut self.client(way, "pgbench", &words), "", limit)?;
        let after = between.map(processor).transpose()?;
        if let Some(daemon) = self.daemon(way) {
            // Gigabytes after a while; the daemon goes on at its new end.
            let record = OpenOptions::new().write(true).open(daemon.audit_path());
            record
                .and_then(|file| file.set_len(0))
                .context("empty the record")?;
        }
        let mut run = Run::read(way, mode, clients, &output)?;
        ensure!(run.tps > 0.0, "pgbench did nothing: {output}");
        let used = after.unwrap_or(0.0) - before.unwrap_or(0.0);
        run.processor_us = used * 1e6 / (run.tps * f64::from(seconds));
        Ok(run)
    }
}

/// The processor time that a process has used, seconds.
fn processor(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("stat")?;
    // Behind the name, which may have spaces: utime and stime are the fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')').context("stat has no name")?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.map(|word| word.parse().unwrap_or(0.0)).sum();
    let each = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    let each = each.context("sysconf")?.context("no clock ticks")?;
    Ok(ticks / each as f64)
}

fn measure(args: &Args, stage: &Stage) -> Result<Report> {
    let mut runs = Vec::new();
    for mode in [Mode::Prepared, Mode::Simple] {
        for &clients in CLIENTS {
            // One short run each, not counted: caches, and the analysis of the statement.
            for way in stage.ways() {
                stage.pgbench(way, mode, clients, 1)?;
            }
            for round in 1..=args.rounds {
                for way in stage.ways() {
                    let run = stage.pgbench(way, mode, clients, args.seconds)?;
                    println!(
                        "round {round}, {}, {clients} clients, {way}: {:.0} tps, {:.3} ms, {:.1} µs",
                        mode.name(),
                        run.tps,
                        run.latency_ms,
                        run.processor_us
                    );
                    runs.push(run);
                }
            }
        }
    }
    let command = format!("cargo xtask bench postgres --seconds {}", args.seconds);
    Ok(Report::new(command, args.rounds, machine()?, runs))
}

fn daemon(binaries: &Binaries, server: &PostgresServer) -> Result<Daemon> {
    let mut policy = fs::read_to_string(fixture("bench.yaml")).context("read bench.yaml")?;
    for number in 0..OTHER_RULES {
        let verb = if number % 2 == 0 { "allow" } else { "deny" };
        policy += &format!(
            "  - {{id: other-{number}, role: bench, {verb}: [sql.read], \
             on: ['bench/app{number}.*', 'bench/public.table{number}']}}\n"
        );
    }
    let policy = shop::at_port(&policy, server.port())?;
    let mut options = Options::new(policy, server.agent_password());
    options.limits = "{connections: 4000, startup_seconds: 60}".into();
    Daemon::start(binaries, &options)
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
