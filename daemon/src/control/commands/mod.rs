//! The commands of `portcullis`, one file each.

mod authority;
mod completion;
mod environment;
mod man;
mod policy;
mod renew;
mod revoke;
mod run;
mod sessions;
mod status;
mod token;
mod whoami;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::sys;
pub use authority::{Certificate, OpenAuthority};

/// Holds every network connection of an AI agent.
///
/// Start an agent below the gate with `portcullis run --as NAME -- CMD`; see what is in
/// force with `portcullis status`; try a policy with `portcullis policy check`.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "PORTCULLIS_SOCKET",
        default_value = "/run/portcullis/control.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Status(status::Args),
    Sessions(sessions::Args),
    Renew(renew::Args),
    Revoke(revoke::Args),
    Whoami(whoami::Args),
    Policy(policy::Args),
    Authority(authority::Args),
    Completion(completion::Args),
    Man(man::Args),
}

/// Loads the policy at a path and runs its tests; says in one line that it is good.
pub type CheckPolicy = fn(&Path) -> anyhow::Result<String>;

/// What is handed in, because this module may not know it.
#[derive(Debug, Clone, Copy)]
pub struct Outside {
    /// Reads statements.
    pub check_policy: CheckPolicy,
    /// Reads the daemon's configuration and its key.
    pub authority: OpenAuthority,
}

/// Runs the command; the exit code is the process's.
pub fn run(cli: &Cli, outside: &Outside) -> ExitCode {
    sys::die_of_closed_pipes();
    let result = match &cli.command {
        // Replaces this process; its failures have a shell's exit codes.
        Command::Run(args) => return run::run(&cli.socket, args),
        Command::Status(args) => status::run(&cli.socket, args),
        Command::Sessions(args) => sessions::run(&cli.socket, args),
        Command::Renew(args) => renew::run(&cli.socket, args),
        Command::Revoke(args) => revoke::run(&cli.socket, args),
        Command::Whoami(args) => whoami::run(&cli.socket, args),
        Command::Policy(args) => policy::run(args, outside.check_policy),
        Command::Authority(args) => authority::run(args, outside.authority),
        Command::Completion(args) => completion::run(args),
        Command::Man(args) => man::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::FAILURE
        }
    }
}
