//! `portcullis whoami`.

use std::path::Path;
use std::process::ExitCode;

use hyper::Method;

use super::sessions;
use crate::control::api::SessionInfo;
use crate::control::{agent_socket, client};

/// From inside an agent session: show whose it is, its roles, and when it ends.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(socket: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let socket = agent_socket(socket);
    let own: SessionInfo = client::ask(&socket, Method::GET, "/v1/self", None::<&()>)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&own)?);
    } else {
        sessions::print(&own);
    }
    Ok(ExitCode::SUCCESS)
}
