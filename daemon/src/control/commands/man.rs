//! `portcullis man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

/// Write the manual pages, one for each command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis man /usr/local/share/man/man1")]
pub(super) struct Args {
    /// The directory to write them into.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = args.directory.display();
    std::fs::create_dir_all(&args.directory).with_context(|| format!("cannot make {directory}"))?;
    let command = super::Cli::command();
    clap_mangen::generate_to(command, &args.directory)
        .with_context(|| format!("cannot write into {directory}"))?;
    Ok(ExitCode::SUCCESS)
}
