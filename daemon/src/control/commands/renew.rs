//! `portcullis renew`, and the process that renews a session by itself.
//!
//! That process is started by `portcullis run --token-file` outside the session, which it
//! has to be to use the control socket; it belongs to nobody's job, watches the file, and
//! ends with the session.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;
use hyper::Method;

use super::token;
use crate::control::api::{Renew, Renewed, SessionInfo};
use crate::control::client;

/// How soon a fresh token is noticed, and the end of the session.
const LOOK: Duration = Duration::from_secs(1);

/// Give a session the time and the groups of a fresh token of the same subject.
///
/// A session started with `--token-file` does this by itself whenever the file changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis renew s-4f1c92a07be3d815 --token-file /run/token")]
pub(super) struct Args {
    /// As `portcullis sessions` shows it; - reads it from standard input.
    #[arg(value_name = "SESSION")]
    session: String,
    #[command(flatten)]
    token: token::Source,
    /// Stay, and renew it whenever the file changes, until it ends.
    #[arg(long, requires = "token_file")]
    watch: bool,
    /// The same in a process of its own.
    #[arg(long, requires = "watch", hide = true)]
    detach: bool,
}

pub(super) fn run(socket: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    if args.detach {
        // Its parent must not find an unknown child: this one in between ends at once.
        watcher(socket, args, false)?.spawn().context("fork")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (session, seen) = match args.session.as_str() {
        "-" => read_session()?,
        session => (session.to_owned(), None),
    };
    match &args.token.token_file {
        Some(file) if args.watch => watch(socket, &session, file, seen),
        _ => renew(socket, &session, &args.token),
    }
}

/// The id comes once there is a session; nothing if there never is one. Behind it may stand
/// which version of the file the session began with.
fn read_session() -> anyhow::Result<(String, Option<Version>)> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("read")?;
    let mut words = line.split_whitespace();
    let session = words.next().context("no session on standard input")?;
    Ok((session.to_owned(), words.next().and_then(Version::parse)))
}

fn renew(socket: &Path, session: &str, source: &token::Source) -> anyhow::Result<ExitCode> {
    let token = source.read()?.context("give --token-file or --token-env")?;
    let path = format!("/v1/sessions/{session}/renew");
    let renewed: Renewed = client::ask(socket, Method::POST, &path, Some(&Renew { token }))?;
    let until = renewed.expires.as_deref().unwrap_or("it ends by itself");
    println!("{session} renewed until {until}");
    Ok(ExitCode::SUCCESS)
}

fn watch(
    socket: &Path,
    session: &str,
    file: &Path,
    seen: Option<Version>,
) -> anyhow::Result<ExitCode> {
    let mut last = seen.or_else(|| Version::of(file));
    let path = format!("/v1/sessions/{session}");
    let found: SessionInfo = client::ask(socket, Method::GET, &path, None::<&()>)?;
    while is_live(socket, &found) {
        sleep(LOOK);
        let now = Version::of(file);
        if now == last || now.is_none() {
            continue;
        }
        let sent = token::from_file(file).and_then(|token| {
            let path = format!("/v1/sessions/{session}/renew");
            client::ask::<Renewed>(socket, Method::POST, &path, Some(&Renew { token }))
        });
        match sent {
            Ok(_) => last = now,
            // Half-written, or the daemon restarts: tried again. The record has refusals.
            Err(error) => eprintln!("portcullis: {session}: {error:#}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A daemon that does not answer is waited for as long as the session's cgroup is there: the
/// session outlives it.
fn is_live(socket: &Path, session: &SessionInfo) -> bool {
    let path = format!("/v1/sessions/{}", session.session);
    let asked = client::ask::<SessionInfo>(socket, Method::GET, &path, None::<&()>);
    match asked {
        Ok(info) => info.ended.is_none(),
        Err(error) if error.is::<client::Refused>() => false,
        Err(_) => Path::new(&session.cgroup).exists(),
    }
}

/// What tells one content of a file from the next, through links: modified (seconds,
/// nanoseconds), inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version(i64, i64, u64);

impl Version {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self(found.mtime(), found.mtime_nsec(), found.ino()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, ',');
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.0, self.1, self.2)
    }
}

/// A watcher that waits to be told its session.
pub(super) struct Watcher {
    child: Child,
    input: ChildStdin,
    /// Of the file before its token was read: what comes later is fresh.
    seen: Option<Version>,
}

impl Watcher {
    /// Starts one, outside any session still to come. Before the token is read.
    pub(super) fn start(socket: &Path, file: &Path) -> anyhow::Result<Self> {
        let args = Args {
            session: "-".into(),
            token: token::Source {
                // Its links are followed at each look: they are what is changed.
                token_file: Some(std::path::absolute(file).context("the token file")?),
                token_env: None,
            },
            watch: true,
            detach: true,
        };
        let mut command = watcher(socket, &args, true)?;
        let mut child = command.stdin(Stdio::piped()).spawn().context("fork")?;
        let input = child.stdin.take().context("no pipe to the watcher")?;
        let seen = Version::of(file);
        Ok(Self { child, input, seen })
    }

    /// Tells it its session. It is left to itself.
    pub(super) fn follow(mut self, session: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let status = self.child.wait().context("waitpid")?;
        anyhow::ensure!(status.success(), "the process that renews it did not start");
        let seen = self.seen.map(|seen| seen.to_string()).unwrap_or_default();
        writeln!(self.input, "{session} {seen}").context("write to the watcher")
    }
}

fn watcher(socket: &Path, args: &Args, detach: bool) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("cannot find my own program")?;
    let file = args.token.token_file.as_deref().context("no token file")?;
    let mut command = Command::new(own);
    command.arg("--socket").arg(socket);
    command.args(["renew", &args.session, "--watch", "--token-file"]);
    command.arg(file);
    if detach {
        command.arg("--detach");
    }
    command.current_dir("/").process_group(0);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_it_is_written() {
        let version = Version(1, -2, u64::MAX);
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for broken in ["", "1", "1,2", "1,2,3,4", "a,b,c", "1,2,-3"] {
            assert_eq!(Version::parse(broken), None, "{broken}");
        }
    }
}
