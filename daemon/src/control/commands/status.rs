//! `portcullis status`.

use std::path::Path;
use std::process::ExitCode;

use hyper::Method;

use crate::control::api::Status;
use crate::control::client;

/// Show what is in force: kernel programs, policy, sessions, audit log.
///
/// Exit code 0 when everything is, 1 when the daemon does not answer, 3 when something
/// is wrong (a kernel program is gone, the newest policy was not taken).
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(socket: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let status: Status = client::ask(socket, Method::GET, "/v1/status", None::<&()>)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    let whole = status.gate_problem.is_empty() && status.policy_problem.is_empty();
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn print(status: &Status) {
    let hooks: Vec<&str> = status
        .layers
        .iter()
        .map(|layer| layer.hook.as_str())
        .collect();
    println!("portcullisd {} (pid {})", status.version, status.pid);
    if status.gate_problem.is_empty() {
        println!(
            "gate       in force on {}: {}",
            status.cgroup,
            hooks.join(", ")
        );
    } else {
        println!("gate       NOT IN FORCE: {}", status.gate_problem);
    }
    for layer in &status.degraded {
        println!(
            "degraded   without {} ({}); open: {}",
            layer.layer, layer.why, layer.leaves_open
        );
    }
    println!(
        "policy     generation {} from {}",
        status.generation, status.policies
    );
    if !status.policy_problem.is_empty() {
        println!(
            "           the newest was NOT TAKEN:\n{}",
            status.policy_problem
        );
    }
    for problem in &status.destination_problems {
        println!("service    {problem}");
    }
    print_sessions(status);
    let journal = if status.audit_journal {
        ", with a copy in the journal"
    } else {
        ""
    };
    println!("audit      {}{journal}", status.audit_file);
}

fn print_sessions(status: &Status) {
    println!(
        "sessions   {}, connections {}",
        status.sessions, status.connections
    );
    for session in &status.session_layers {
        let launcher = if session.launcher { "yes" } else { "NO" };
        println!(
            "           {}  {}  launcher: {launcher}",
            session.session, session.principal
        );
    }
}
