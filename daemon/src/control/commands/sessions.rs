//! `portcullis sessions`.

use std::path::Path;
use std::process::ExitCode;

use hyper::Method;

use crate::control::api::SessionInfo;
use crate::control::client;

/// List the agent sessions, or show one.
///
/// An ended session stays in the list while its processes live.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this one, with all that is known of it.
    #[arg(value_name = "SESSION")]
    session: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(socket: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(session) = &args.session {
        let path = format!("/v1/sessions/{session}");
        let found: SessionInfo = client::ask(socket, Method::GET, &path, None::<&()>)?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&found)?);
        } else {
            print(&found);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let sessions: Vec<SessionInfo> = client::ask(socket, Method::GET, "/v1/sessions", None::<&()>)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&sessions)?);
        return Ok(ExitCode::SUCCESS);
    }
    if sessions.is_empty() {
        println!("no agent session");
    }
    for session in &sessions {
        println!("{}", line(session));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(session: &SessionInfo) -> String {
    let end = match (&session.ended, &session.expires) {
        (Some(why), _) => format!("  ENDED: {why}"),
        (None, Some(when)) => format!("  until {when}"),
        (None, None) => String::new(),
    };
    format!(
        "{}  {}  roles {}  uid {}  since {}{end}",
        session.session,
        session.principal,
        session.roles.join(","),
        session.uid,
        session.started
    )
}

/// All that is known of one session.
pub(super) fn print(session: &SessionInfo) {
    println!("session    {}", session.session);
    if !session.chain.is_empty() {
        println!("inside     {}", session.chain.join(" > "));
    }
    println!(
        "principal  {} (known by {})",
        session.principal, session.proof
    );
    println!("roles      {}", session.roles.join(", "));
    println!("uid        {}", session.uid);
    println!("since      {}", session.started);
    match (&session.ended, &session.expires) {
        (Some(why), _) => println!("ENDED      {why}"),
        (None, Some(when)) => println!("until      {when}"),
        (None, None) => println!("until      its last process ends"),
    }
    println!("cgroup     {}", session.cgroup);
    println!("launcher   {}", if session.launcher { "yes" } else { "NO" });
}
