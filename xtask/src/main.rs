//! Developer tasks; this file only dispatches. Each command has a file of its own.

mod bench;
mod bench_bulk;
mod bench_calls;
mod bench_gate;
mod bench_many;
mod bench_postgres;
mod bench_report;
mod bench_run;
mod build;
mod build_ebpf;
mod compat;
mod demo;
mod demo_steps;
mod fuzz;
mod root;
mod setup;
mod test;
mod test_counts;
mod tidy;
mod vm_test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks of Portcullis.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building and testing need (as root, on Debian).
    Setup,
    /// Build the kernel programs alone and say where the object is.
    BuildEbpf,
    /// Show the whole on a private PostgreSQL server, and leave nothing behind (as root).
    Demo,
    /// Run the unit, kernel and end-to-end tests (as root).
    Test(test::Args),
    /// Measure all, or `postgres`: pgbench, bulk and many connections direct, through
    /// PgBouncer and through Portcullis; `gate`: what the kernel hooks cost; `run`: what the
    /// start of an agent does (as root).
    Bench(bench::Args),
    /// Run PostgreSQL's and its drivers' own test suites, direct and through the gate (as
    /// root).
    Compat(compat::Args),
    /// Fuzz the PostgreSQL codec and session, each target for a while.
    Fuzz(fuzz::Args),
    /// Check the rules of the house: arrows, sizes, unsafe, formatting, lints.
    Tidy(tidy::Args),
    /// Test the gate on systemd hosts with other kernels, in virtual machines (as root).
    VmTest(vm_test::Args),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Task::Setup => setup::run(),
        Task::BuildEbpf => build_ebpf::run(),
        Task::Demo => demo::run(),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Compat(args) => compat::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::VmTest(args) => vm_test::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
