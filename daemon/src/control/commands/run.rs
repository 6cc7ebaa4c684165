//! `portcullis run`: become an agent.
//!
//! The daemon puts this very process into the session's cgroup; then the launcher takes
//! from it what an agent may not have, and it becomes CMD. So terminal, job control,
//! signals and the exit code are CMD's own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use hyper::Method;

use crate::control::api::{StartSession, Started};
use crate::control::client;
use crate::launch::{self, Identity, Orders};

/// portcullis itself failed; 126 and 127 are CMD's, as in a shell.
const OWN_FAILURE: u8 = 125;

/// Run a command as an agent: every connection that it makes is held by the gate.
///
/// The command runs as you, in a new agent session, and needs no settings: it connects to
/// the addresses that it knows. It ends like any command: its exit code is passed on, 126
/// if it can't be executed, 127 if it is not found, and 125 if no session can be had.
///
/// The agent has no capabilities, even as root, and can't get any. Started by root, it
/// can write only below its working directory, its home, /tmp and /var/tmp, and the
/// directories that you name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis run --as analyst -- psql -h db.corp -d shop")]
pub(super) struct Args {
    /// Whom the agent acts for, as the policy's roles name it.
    #[arg(long = "as", value_name = "NAME")]
    principal: String,
    /// Run as this user of the host (only root may ask).
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Another directory that the agent of a root caller may write to.
    #[arg(long, value_name = "DIR")]
    writable: Vec<PathBuf>,
    /// Start even though you are in a group that is a way round the gate (docker, disk).
    #[arg(long)]
    keep_groups: bool,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(socket: &Path, args: &Args) -> ExitCode {
    match start(socket, args) {
        Ok(identity) => become_command(&args.command, &identity),
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::from(OWN_FAILURE)
        }
    }
}

/// Everything that can be refused without a session comes before it.
fn start(socket: &Path, args: &Args) -> anyhow::Result<Identity> {
    launch::streams::check()?;
    let identity = Identity::choose(args.user.as_deref(), args.keep_groups)?;
    let writable = launch::writable(&identity, &args.writable)?;
    let request = StartSession {
        principal: args.principal.clone(),
    };
    let started: Started = client::ask(socket, Method::POST, "/v1/sessions", Some(&request))?;
    let orders = Orders {
        hide: started.hide,
        unix_sockets: started.unix_sockets,
        control_group: started.control_group,
    };
    launch::confine(&identity, writable, &orders)?;
    Ok(identity)
}

fn become_command(command: &[OsString], identity: &Identity) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(OWN_FAILURE);
    };
    let mut command = Command::new(program);
    for name in identity.foreign() {
        command.env_remove(name);
    }
    let variables = identity
        .variables()
        .iter()
        .map(|(name, value)| (name, value));
    let error = command.args(arguments).envs(variables).exec();
    eprintln!("portcullis: {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}
