//! `portcullis`: the command line of sysadmins and agents' launchers.

use std::process::ExitCode;

use clap::Parser;
use portcullis::app;
use portcullis::control::commands::{Cli, Outside, run};

fn main() -> ExitCode {
    let outside = Outside {
        check_policy: app::check_policy,
        authority: app::authority,
    };
    run(&Cli::parse(), &outside)
}
