//! What a program prints: `exec: [/path, argument]`.
//!
//! No shell, no environment but a PATH, no input, no capabilities, a process group of its
//! own; bounded in time and output. Whatever it has started in its group is ended with it.
//! Its standard output is never logged; of its standard error, the first line, cut short,
//! when it fails.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::{Fetched, LIMIT, Lease, Pending, Source, VaultError, usable};
use crate::policy::{Helper, HelperFormat, Permit};
use crate::sys;
use crate::types::{Credential, Secret};

/// What is read of its standard error, and what is shown of it.
const SAID: usize = 4096;
const SHOWN: usize = 160;
/// How often a program that has closed nothing is looked at.
const LOOK: Duration = Duration::from_millis(10);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One program.
pub(super) struct Program(pub(super) Helper);

impl Source for Program {
    fn fetch<'a>(&'a self, _permit: &'a Permit) -> Pending<'a, Fetched> {
        let helper = self.0.clone();
        Box::pin(async move {
            let run = tokio::task::spawn_blocking(move || run(&helper));
            run.await.unwrap_or_else(|error| {
                Err(VaultError::Start {
                    path: self.name().into(),
                    source: io::Error::other(error),
                })
            })
        })
    }
}

impl Program {
    fn name(&self) -> &str {
        name(&self.0)
    }
}

fn name(helper: &Helper) -> &str {
    helper.argv.first().map_or("", String::as_str)
}

/// Checks that nobody else could put a program of theirs in its place.
pub(super) fn check(helper: &Helper) -> Result<(), VaultError> {
    let path = name(helper);
    let metadata = fs::metadata(path).map_err(|source| VaultError::Start {
        path: path.into(),
        source,
    })?;
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    let ours = uid == 0 || uid == nix::unistd::geteuid().as_raw();
    if !metadata.is_file() || mode & 0o022 != 0 || !ours {
        return Err(VaultError::Loose {
            path: path.into(),
            mode,
            uid,
        });
    }
    Ok(())
}

fn run(helper: &Helper) -> Result<Fetched, VaultError> {
    check(helper)?;
    let failed = |source| VaultError::Start {
        path: name(helper).into(),
        source,
    };
    let (stdout, to_stdout) = io::pipe().map_err(failed)?;
    let (stderr, to_stderr) = io::pipe().map_err(failed)?;
    let mut command = Command::new(name(helper));
    command
        .args(helper.argv.iter().skip(1))
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(to_stdout)
        .stderr(to_stderr)
        .process_group(0);
    sys::start_without_capabilities(&mut command);
    let child = command.spawn().map_err(failed)?;
    // It holds our ends of the pipes.
    drop(command);
    let mut running = Running {
        child,
        stdout: Bounded::new(stdout, LIMIT).map_err(failed)?,
        stderr: Bounded::new(stderr, SAID).map_err(failed)?,
    };
    let ended = running.wait(Instant::now() + helper.timeout);
    let status = running.end().map_err(failed)?;
    let said = running.said();
    let wrong = |problem: String| VaultError::Helper {
        path: name(helper).into(),
        problem,
        said: said.clone(),
    };
    match ended.map_err(failed)? {
        Ended::TooLate => Err(VaultError::Timeout {
            path: name(helper).into(),
            timeout: helper.timeout,
        }),
        Ended::TooMuch => Err(wrong("printed more than 64 KiB, and was killed".into())),
        Ended::ByItself if !status.success() => Err(wrong(ending(status))),
        Ended::ByItself => read(helper, &running.stdout.bytes),
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}

enum Ended {
    ByItself,
    TooLate,
    TooMuch,
}

struct Running {
    child: Child,
    stdout: Bounded,
    stderr: Bounded,
}

impl Running {
    /// Reads until the program has ended, or one of its bounds is reached.
    fn wait(&mut self, deadline: Instant) -> io::Result<Ended> {
        loop {
            // Looked at first: what it printed before its end is then read after it.
            let ended = self.has_ended()?;
            self.stderr.fill_some()?;
            if self.stdout.fill()? {
                return Ok(Ended::TooMuch);
            }
            if ended {
                return Ok(Ended::ByItself);
            }
            if Instant::now() >= deadline {
                return Ok(Ended::TooLate);
            }
            self.pause()?;
        }
    }

    /// Until there is something to read, or it is time to look again.
    fn pause(&self) -> io::Result<()> {
        let open = [&self.stdout, &self.stderr];
        let mut waits: Vec<PollFd<'_>> = open
            .iter()
            .filter(|one| !one.closed)
            .map(|one| PollFd::new(one.pipe.as_fd(), PollFlags::POLLIN))
            .collect();
        let look = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
        match poll(&mut waits, look) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Without taking its status, so that its number stays its own.
    fn has_ended(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(self.pid()), flags)?;
        Ok(status != WaitStatus::StillAlive)
    }

    /// Ends all of its group, then takes its status: until then no other group can have
    /// its number.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // A group that is empty but for the ended program takes it too.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        self.child.wait()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The first line of what it said, without anything of what it printed.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr.bytes);
        let line = text.lines().next().unwrap_or_default().trim();
        let printed = String::from_utf8_lossy(&self.stdout.bytes);
        let repeats = |word: &str| word.len() > 3 && line.contains(word);
        if printed.split_whitespace().any(repeats) {
            return "(its standard error has words of its standard output)".into();
        }
        line.chars().take(SHOWN).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless something failed on the way; then this is the end.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.end();
        }
    }
}

/// A pipe that is read without waiting, and what came of it.
struct Bounded {
    pipe: PipeReader,
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
    closed: bool,
}

impl Bounded {
    fn new(pipe: PipeReader, limit: usize) -> io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFL(flags))?;
        // Room for all of it at once: what grows leaves copies behind.
        let bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        Ok(Self {
            pipe,
            bytes,
            limit,
            closed: false,
        })
    }

    /// Takes what is there; true when it is more than the limit.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = Zeroizing::new([0_u8; 4096]);
        while !self.closed {
            let room = (self.limit + 1 - self.bytes.len()).min(chunk.len());
            let Some(into) = chunk.get_mut(..room).filter(|into| !into.is_empty()) else {
                return Ok(true);
            };
            match self.pipe.read(into) {
                Ok(0) => self.closed = true,
                Ok(read) => self
                    .bytes
                    .extend_from_slice(into.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.bytes.len() > self.limit)
    }

    /// The same, of which only the beginning is kept.
    fn fill_some(&mut self) -> io::Result<()> {
        while self.fill()? {
            self.bytes.truncate(self.limit / 2);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    secret: Secret,
    user: Option<String>,
    lease_seconds: Option<u64>,
}

fn read(helper: &Helper, printed: &[u8]) -> Result<Fetched, VaultError> {
    let wrong = |problem| VaultError::Content {
        from: format!("that {} printed", name(helper)),
        problem,
    };
    if helper.format == HelperFormat::Text {
        let line = printed.strip_suffix(b"\n").unwrap_or(printed);
        let text = std::str::from_utf8(line).map_err(|_| wrong("is not UTF-8"))?;
        return Ok(usable(Secret::new(text.to_owned())).map_err(wrong)?.into());
    }
    // The parser's own words would repeat what is wrong.
    let printed: Printed = serde_json::from_slice(printed).map_err(|_| {
        wrong("is not JSON of the form {\"secret\": .., \"user\": .., \"lease_seconds\": ..}")
    })?;
    let user = printed.user;
    if user.as_deref().is_some_and(|user| !is_user(user)) {
        return Err(wrong("has a user that is no user name"));
    }
    let lease = match printed.lease_seconds {
        Some(0) => return Err(wrong("has a lease of no time")),
        Some(seconds) => Some(Lease {
            id: None,
            lasts: Duration::from_secs(seconds.min(LONGEST_LEASE)),
            renewable: false,
            token: None,
        }),
        None => None,
    };
    Ok(Fetched {
        credential: Credential {
            user,
            secret: usable(printed.secret).map_err(wrong)?,
        },
        lease,
    })
}

/// A day: whoever says more would like it kept for ever.
const LONGEST_LEASE: u64 = 24 * 60 * 60;

/// What can stand in a start-up packet.
pub(super) fn is_user(user: &str) -> bool {
    !user.is_empty() && user.len() <= 63 && !user.chars().any(char::is_control)
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
