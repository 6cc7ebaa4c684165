//! `portcullis policy`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::CheckPolicy;

/// Work on policies.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load policy files and run their tests: exit code 0 if all is well, 1 if not.
    ///
    /// Needs no daemon and no root, so that it can run where the policies are written.
    #[command(after_help = "Example:\n  portcullis policy check policies/")]
    Check {
        /// A directory of *.yaml files, or one file.
        #[arg(default_value = "/etc/portcullis/policies", value_name = "PATH")]
        path: PathBuf,
    },
}

pub(super) fn run(args: &Args, check: CheckPolicy) -> anyhow::Result<ExitCode> {
    let Command::Check { path } = &args.command;
    println!("{}", check(path)?);
    Ok(ExitCode::SUCCESS)
}
