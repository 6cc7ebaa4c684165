//! `cargo xtask bench`: all measurements, or one of them.

use std::path::PathBuf;

use anyhow::Result;

use crate::{bench_gate, bench_postgres, bench_run};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How long each measurement of pgbench takes.
    #[arg(long, default_value_t = 5, global = true)]
    pub seconds: u32,
    /// How often each is taken; the tables show medians.
    #[arg(long, default_value_t = 3, global = true)]
    pub rounds: u32,
    /// pgbench's scale factor: 100,000 rows each. The bulk measurements read a million.
    #[arg(long, default_value_t = 10, global = true)]
    pub scale: u32,
    /// Only direct and PgBouncer, without building the daemon; writes nothing.
    #[arg(long, global = true)]
    pub baseline: bool,
    /// Measures the binaries in this directory instead of building.
    #[arg(long, global = true)]
    pub binaries: Option<PathBuf>,
    /// Also measures the binaries in this directory, of another build; writes nothing.
    #[arg(long, global = true)]
    pub beside: Option<PathBuf>,
    /// Only this part of `postgres`.
    #[arg(long, global = true)]
    pub only: Option<Part>,
}

/// A part of `postgres`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Small transactions.
    Pgbench,
    /// System calls for each of them.
    Calls,
    /// Much data.
    Bulk,
    /// Many connections.
    Many,
}

/// One of them.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum What {
    /// pgbench, bulk and many connections: direct, through PgBouncer, through Portcullis.
    Postgres,
    /// Measure connect(), bulk and sessions with the kernel hooks and without.
    Gate,
    /// Measure how long `portcullis run` takes to start a command.
    Run,
}

/// Measures, prints the tables and writes them into `docs/benchmarks.md`.
pub fn run(args: &Args) -> Result<()> {
    match args.what {
        Some(What::Postgres) => bench_postgres::run(args),
        Some(What::Gate) => bench_gate::run(),
        Some(What::Run) => bench_run::run(),
        None => {
            bench_postgres::run(args)?;
            bench_gate::run()?;
            bench_run::run()
        }
    }
}
