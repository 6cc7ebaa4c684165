//! `portcullis sessions`.

use std::path::Path;
use std::process::ExitCode;

use hyper::Method;

use crate::control::api::SessionInfo;
use crate::control::client;

/// List the live agent sessions.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(socket: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let sessions: Vec<SessionInfo> = client::ask(socket, Method::GET, "/v1/sessions", None::<&()>)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&sessions)?);
        return Ok(ExitCode::SUCCESS);
    }
    if sessions.is_empty() {
        println!("no agent session");
    }
    for session in sessions {
        println!(
            "{}  {}  roles {}  uid {}  since {}",
            session.session,
            session.principal,
            session.roles.join(","),
            session.uid,
            session.started
        );
    }
    Ok(ExitCode::SUCCESS)
}
