//! `portcullis run`: become an agent.
//!
//! The daemon puts this very process into the session's cgroup; then it becomes CMD. So
//! terminal, job control, signals and the exit code are CMD's own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use hyper::Method;

use crate::control::api::{StartSession, Started};
use crate::control::client;
use crate::sys;

/// portcullis itself failed; 126 and 127 are CMD's, as in a shell.
const OWN_FAILURE: u8 = 125;

/// Run a command as an agent: every connection that it makes is held by the gate.
///
/// The command runs as you, in a new agent session, and needs no settings: it connects to
/// the addresses that it knows. It ends like any command: its exit code is passed on, 126
/// if it can't be executed, 127 if it is not found, and 125 if no session can be had.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis run --as analyst -- psql -h db.corp -d shop")]
pub(super) struct Args {
    /// Whom the agent acts for, as the policy's roles name it.
    #[arg(long = "as", value_name = "NAME")]
    principal: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(socket: &Path, args: &Args) -> ExitCode {
    let request = StartSession {
        principal: args.principal.clone(),
    };
    let started: anyhow::Result<Started> =
        client::ask(socket, Method::POST, "/v1/sessions", Some(&request));
    if let Err(error) = started {
        eprintln!("portcullis: {error:#}");
        return ExitCode::from(OWN_FAILURE);
    }
    if let Err(error) = hold_down() {
        eprintln!("portcullis: {error}");
        return ExitCode::from(OWN_FAILURE);
    }
    become_command(&args.command)
}

/// An inherited socket is a way round the gate, and so is a set-user-id helper.
fn hold_down() -> io::Result<()> {
    sys::close_on_exec_from(3)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

fn become_command(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(OWN_FAILURE);
    };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("portcullis: {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}
