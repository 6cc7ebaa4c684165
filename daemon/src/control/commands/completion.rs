//! `portcullis completion`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  portcullis completion bash > /etc/bash_completion.d/portcullis"
)]
pub(super) struct Args {
    /// bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = super::Cli::command();
    clap_complete::generate(
        args.shell,
        &mut command,
        "portcullis",
        &mut std::io::stdout(),
    );
    Ok(ExitCode::SUCCESS)
}
