//! Child processes with a time limit, ended by pid when dropped.
//!
//! A [`Child`] that was not waited for keeps its pid, so that a signal can't reach a
//! stranger. Output goes to files, not pipes: a grandchild that keeps a pipe open can't
//! make a test hang.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// How long a process may take to end after a polite signal.
const POLITE: Duration = Duration::from_secs(10);

/// What came of a finished command.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code as a shell would give it: 128 + the signal that ended it.
    pub fn code(&self) -> i32 {
        shell_code(self.status)
    }

    /// Both streams, for messages and for searching.
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

fn shell_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    on_drop: Signal,
}

impl Process {
    /// Starts it. When dropped it gets `on_drop`, and SIGKILL if that did not help.
    pub fn spawn(command: &mut Command, on_drop: Signal) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self {
            name,
            child,
            on_drop,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if that is a pipe; only once.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal. A process that has ended already is no error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("pid")?);
        kill(pid, signal).with_context(|| format!("kill {} with {signal}", self.name))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("wait for {}", self.name))
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || self.ended())
    }

    /// Sends a signal and waits for the end.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(POLITE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop(self.on_drop).is_err() {
            // It may be gone by now; there is nobody left to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end, with `input` as its standard input.
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Result<Finished> {
    let mut stdin = tempfile::tempfile().context("temporary file")?;
    std::io::Write::write_all(&mut stdin, input.as_bytes()).context("write stdin")?;
    stdin.rewind().context("rewind stdin")?;
    let stdout = tempfile::tempfile().context("temporary file")?;
    let stderr = tempfile::tempfile().context("temporary file")?;
    command
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout.try_clone().context("dup")?))
        .stderr(Stdio::from(stderr.try_clone().context("dup")?));
    let mut process = Process::spawn(command, Signal::SIGKILL)?;
    let status = match process.wait(limit) {
        Ok(status) => status,
        Err(error) => {
            let (out, err) = (text(stdout)?, text(stderr)?);
            return Err(error.context(format!("it had printed: {out}{err}")));
        }
    };
    Ok(Finished {
        status,
        stdout: text(stdout)?,
        stderr: text(stderr)?,
    })
}

/// As [`run`], and an exit code other than 0 is an error with what was printed.
pub fn check(command: &mut Command, input: &str, limit: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = run(command, input, limit)?;
    if done.code() == 0 {
        return Ok(done.stdout);
    }
    anyhow::bail!("{name} ended with {}: {}", done.code(), done.both().trim())
}

fn text(mut file: File) -> Result<String> {
    file.rewind().context("rewind output")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context("read output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last `lines` lines of a log file, for error messages; empty if it can't be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.iter()
        .skip(all.len().saturating_sub(lines))
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_panic_ends_the_child() {
        let (send, receive) = std::sync::mpsc::channel();
        let outcome = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            let child = Process::spawn(command.arg("1000"), Signal::SIGTERM).expect("sleep");
            send.send(child.pid()).expect("send");
            panic!("on purpose");
        })
        .join();
        assert!(outcome.is_err());
        assert!(!alive(receive.recv().expect("pid")));
    }

    #[test]
    fn a_grandchild_with_our_output_does_not_hold_us() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 3 & echo out; echo err >&2; exit 7"]);
        let done = run(&mut command, "", Duration::from_secs(2)).expect("runs");
        assert_eq!(
            (done.code(), done.stdout.as_str(), done.stderr.as_str()),
            (7, "out\n", "err\n")
        );
    }

    #[test]
    fn a_time_limit_is_an_error_with_the_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 1000"]);
        let error = run(&mut command, "", Duration::from_millis(300)).expect_err("too slow");
        assert!(format!("{error:#}").contains("started"), "{error:#}");
    }

    #[test]
    fn a_signal_reads_as_a_shell_reads_it() {
        let mut command = Command::new("sh");
        let done = run(
            command.args(["-c", "kill -9 $$"]),
            "",
            Duration::from_secs(5),
        );
        assert_eq!(done.expect("runs").code(), 137);
    }
}
