//! `cargo xtask compat`: PostgreSQL's own test suites and those of its drivers, direct and
//! from inside an agent session, through the gate with a policy that allows everything.
//!
//! Each suite gets a server of its own version, twice; what comes out differently must be
//! in the table of known differences (`known.rs`), with the reason, and what is in the
//! table must differ. The results go into `docs/compat.md`. Suites are fetched through the
//! system's package tools into `target/compat`; one that can't be had is an error.

mod asyncpg;
mod fetch;
mod known;
mod libpq_pipeline;
mod pgbench;
mod programs;
mod regress;
mod report;
mod results;
mod sources;
mod tokio_postgres;
mod world;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::test_counts::Counts;
use crate::{build, root, setup};
use report::Row;
use results::Both;
use world::Tools;

/// Arguments of `cargo xtask compat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these; all of them without it.
    suites: Vec<Suite>,
}

/// The suites, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// pgbench in all modes.
    Pgbench,
    /// A program that uses psycopg 3.
    Psycopg,
    /// A program that uses node-postgres.
    NodePostgres,
    /// PostgreSQL's regression suite, the parallel schedule.
    Regress,
    /// libpq_pipeline, with the traces of its messages.
    LibpqPipeline,
    /// PostgreSQL's isolation suite.
    Isolation,
    /// tokio-postgres' own tests.
    TokioPostgres,
    /// asyncpg's own tests.
    Asyncpg,
}

/// Those that are quick enough to be run with the tests.
const QUICK: &[Suite] = &[
    Suite::Pgbench,
    Suite::Psycopg,
    Suite::NodePostgres,
    Suite::LibpqPipeline,
    Suite::Regress,
];

impl Suite {
    /// Its name in the arguments and in the table.
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Fetches what it needs and runs it in both ways.
    fn play(self, tools: &Tools) -> Result<Both> {
        match self {
            Self::Pgbench => pgbench::play(tools),
            Self::Psycopg => programs::psycopg(tools),
            Self::NodePostgres => programs::node_postgres(tools),
            Self::Regress => regress::regression(tools),
            Self::LibpqPipeline => libpq_pipeline::play(tools),
            Self::Isolation => regress::isolation(tools),
            Self::TokioPostgres => tokio_postgres::play(tools),
            Self::Asyncpg => asyncpg::play(tools),
        }
    }

    fn row(self, tools: &Tools) -> Result<Row> {
        let name = self.name();
        println!("\n=== {name} ===");
        let start = Instant::now();
        let both = self.play(tools).with_context(|| name.clone())?;
        let row = Row::new(self, both);
        println!("{row} ({:.0} s)", start.elapsed().as_secs_f32());
        Ok(row)
    }
}

/// Runs the suites and writes their rows of the table.
pub fn run(args: &Args) -> Result<()> {
    let suites: &[Suite] = match args.suites.as_slice() {
        [] => Suite::value_variants(),
        some => some,
    };
    let tools = tools("compat")?;
    let mut failed = Vec::new();
    for &suite in suites {
        match suite.row(&tools) {
            Ok(row) => {
                report::write(&row)?;
                failed.extend(
                    row.surprises()
                        .iter()
                        .map(|it| format!("{}: {it}", suite.name())),
                );
            }
            // The others are still worth knowing.
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    ensure!(
        failed.is_empty(),
        "not as expected:\n  {}",
        failed.join("\n  ")
    );
    Ok(())
}

/// Runs the quick ones as tests: each of their tests is one, which fails if it has another
/// result through the gate and no known reason for that.
pub fn quick() -> Result<(Counts, bool)> {
    let tools = tools("test drivers")?;
    let mut counts = Counts::default();
    let mut failed = 0;
    for &suite in QUICK {
        let row = suite.row(&tools)?;
        counts.passed += row.through().passed;
        counts.failed += row.surprises().len() as u64;
        counts.skipped += row.through().skipped;
        for surprise in row.surprises() {
            println!("{}: {surprise}", suite.name());
            failed += 1;
        }
    }
    Ok((counts, failed == 0))
}

fn tools(command: &str) -> Result<Tools> {
    root::require(
        command,
        "it loads programs into the kernel and runs servers",
    )?;
    setup::run()?;
    Tools::new(build::daemon(false)?)
}
