//! `portcullis`: the command line of sysadmins and agents' launchers.

use std::process::ExitCode;

use clap::Parser;
use portcullis::app;
use portcullis::control::commands::{Cli, run};

fn main() -> ExitCode {
    run(&Cli::parse(), app::check_policy)
}
