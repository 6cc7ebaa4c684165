//! `portcullis revoke`.

use std::path::Path;
use std::process::ExitCode;

use hyper::Method;

use crate::control::api::Revoke;
use crate::control::client;

/// End agent sessions: nothing passes from them any more.
///
/// Their connections are cut within a second, what runs on the servers is stopped, and
/// what was started from inside them ends too. The processes live on, and reach nothing,
/// unless you have them killed. You can end your own sessions; root can end all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis revoke s-4f1c92a07be3d815 --kill")]
pub(super) struct Args {
    /// As `portcullis sessions` shows them.
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
    /// Kill their processes too.
    #[arg(long)]
    kill: bool,
}

pub(super) fn run(socket: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let body = Revoke { kill: args.kill };
    let mut code = ExitCode::SUCCESS;
    for session in &args.sessions {
        let path = format!("/v1/sessions/{session}/revoke");
        match client::ask::<()>(socket, Method::POST, &path, Some(&body)) {
            Ok(()) => println!("{session} revoked"),
            Err(error) => {
                eprintln!("portcullis: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
