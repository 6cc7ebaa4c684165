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

use anyhow::Context;
use hyper::Method;

use super::environment::Environment;
use super::renew::Watcher;
use super::token;
use crate::control::api::{Claim, Narrow, StartSession, Started};
use crate::control::{agent_socket, client};
use crate::launch::{self, Identity, Orders, streams};
use crate::types::parse_duration;

/// portcullis itself failed; 126 and 127 are CMD's, as in a shell.
const OWN_FAILURE: u8 = 125;

/// Run a command as an agent: every connection that it makes is held by the gate.
///
/// The command runs as you, in a new agent session, and needs no settings: it connects to
/// the addresses that it knows. It ends like any command: its exit code is passed on, 126
/// if it can't be executed, 127 if it is not found, and 125 if no session can be had.
///
/// Say whom it acts for by name or by a token. From inside a session say --role only: the
/// command gets a narrower session, with these of your roles, that ends no later than yours.
///
/// The agent has no capabilities, even as root, and can't get any. Started by root, it
/// can write only below its working directory, its home, /tmp and /var/tmp, and the
/// directories that you name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  portcullis run --as analyst -- psql -h db.corp -d shop
  portcullis run --token-file /run/agent/token --for 1h -- ./agent
  portcullis run --role reader -- ./executor        (from inside a session)")]
pub(super) struct Args {
    /// Whom the agent acts for, as the policy's roles name it.
    #[arg(long = "as", value_name = "NAME", conflicts_with_all = ["token_file", "token_env"])]
    principal: Option<String>,
    #[command(flatten)]
    token: token::Source,
    /// Only these of the roles; may be given again.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// End the session after this time, like 90s, 15m, 8h.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    seconds: Option<u64>,
    /// Run as this user of the host (only root may ask).
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Start in this directory.
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    #[command(flatten)]
    environment: Environment,
    /// Another directory that the agent of a root caller may write to.
    #[arg(long, value_name = "DIR")]
    writable: Vec<PathBuf>,
    /// Leave it this open descriptor too; files, pipes and terminals only.
    #[arg(long = "keep-fd", value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    descriptors: Vec<u32>,
    /// Start even though you are in a group that is a way round the gate (docker, disk).
    #[arg(long)]
    keep_groups: bool,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(socket: &Path, args: &Args) -> ExitCode {
    match start(socket, args) {
        Ok(identity) => become_command(args, &identity),
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn seconds(text: &str) -> Result<u64, &'static str> {
    let time = parse_duration(text).ok_or("write a whole number and s, m, h or d")?;
    Ok(time.as_secs())
}

/// Everything that can be refused without a session comes before it.
fn start(socket: &Path, args: &Args) -> anyhow::Result<Identity> {
    streams::check(&args.descriptors)?;
    if let Some(directory) = &args.cwd {
        let failed = || format!("--cwd {}", directory.display());
        std::env::set_current_dir(directory).with_context(failed)?;
    }
    let file = args.token.token_file.as_deref();
    let watcher = file.map(|file| Watcher::start(socket, file)).transpose()?;
    match claim(args)? {
        Some(who) => start_session(socket, args, who, watcher),
        None => start_narrower(socket, args),
    }
}

fn claim(args: &Args) -> anyhow::Result<Option<Claim>> {
    let token = args.token.read()?;
    let named = args.principal.clone().map(Claim::As);
    Ok(token.map(Claim::Token).or(named))
}

fn start_session(
    socket: &Path,
    args: &Args,
    who: Claim,
    watcher: Option<Watcher>,
) -> anyhow::Result<Identity> {
    let identity = Identity::choose(args.user.as_deref(), args.keep_groups)?;
    let writable = launch::writable(&identity, &args.writable)?;
    let request = StartSession {
        who,
        roles: args.roles.clone(),
        seconds: args.seconds,
    };
    let started: Started = client::ask(socket, Method::POST, "/v1/sessions", Some(&request))?;
    if let Some(watcher) = watcher {
        watcher.follow(&started.session)?;
    }
    confine(&identity, writable, args, started)?;
    Ok(identity)
}

fn start_narrower(socket: &Path, args: &Args) -> anyhow::Result<Identity> {
    let outside = "say whom it acts for: --as NAME or --token-file FILE";
    anyhow::ensure!(!args.roles.is_empty(), outside);
    let asked_of_root = args.user.is_some() || !args.writable.is_empty();
    anyhow::ensure!(
        !asked_of_root,
        "--user and --writable are not for a session inside a session"
    );
    let request = Narrow {
        roles: args.roles.clone(),
        seconds: args.seconds,
    };
    let socket = agent_socket(socket);
    let asked = client::ask(&socket, Method::POST, "/v1/self/sessions", Some(&request));
    let started: Started = asked.with_context(|| format!("no narrower session; {outside}"))?;
    let identity = Identity::unchanged();
    confine(&identity, Vec::new(), args, started)?;
    Ok(identity)
}

fn confine(
    identity: &Identity,
    writable: Vec<PathBuf>,
    args: &Args,
    started: Started,
) -> anyhow::Result<()> {
    let orders = Orders {
        hide: started.hide,
        unix_sockets: started.unix_sockets,
        control_group: started.control_group,
        descriptors: args.descriptors.clone(),
    };
    Ok(launch::confine(identity, writable, &orders)?)
}

fn become_command(args: &Args, identity: &Identity) -> ExitCode {
    let Some((program, arguments)) = args.command.split_first() else {
        return ExitCode::from(OWN_FAILURE);
    };
    let mut command = Command::new(program);
    args.environment.apply(&mut command, identity);
    if let Some(name) = &args.token.token_env {
        command.env_remove(name);
    }
    let error = command.args(arguments).exec();
    eprintln!("portcullis: {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_are_not_nothing() {
        assert_eq!(seconds("90s"), Ok(90));
        for text in ["", "0s", "-1h", "5", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
