//! An agent under test: a program in an agent session, with no settings and no password.
//!
//! [`Agent::run`] is one session for one command; [`Shell`] and [`Psql`] stay, so that a
//! test can change the world between two of their commands.

use std::env;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::daemon::Daemon;
use crate::process::{self, Finished, Process};
use crate::wait;

/// How long a command of an agent may take, unless the test says otherwise.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Who runs, and under which daemon.
#[derive(Debug, Clone)]
pub struct Agent<'a> {
    daemon: &'a Daemon,
    /// Whom it acts for, and further options, as `portcullis run` has them.
    options: Vec<String>,
    variables: Vec<(String, String)>,
    limit: Duration,
    nobody: bool,
}

impl<'a> Agent<'a> {
    /// An agent that runs as this name.
    pub fn new(daemon: &'a Daemon, name: &str) -> Self {
        Self {
            daemon,
            options: vec!["--as".into(), name.into()],
            variables: Vec::new(),
            limit: LIMIT,
            nobody: false,
        }
    }

    /// Runs as the account `nobody`; the daemon must have been started with
    /// `Options::for_nobody`.
    #[must_use]
    pub fn as_nobody(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// Runs with these further options.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Acts for whomever these options say, instead of a name.
    #[must_use]
    pub fn by(mut self, options: &[&str]) -> Self {
        self.options.clear();
        self.with(options)
    }

    /// Sets an environment variable for the agent's program.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Changes the time limit of a command.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// `portcullis run OPTIONS -- CMD`, with an environment that holds no setting of ours.
    pub fn command(&self, command: &[&str]) -> Command {
        let mut run = self.daemon.client();
        run.arg("run")
            .args(&self.options)
            .arg("--")
            .args(command)
            .env_clear()
            .current_dir("/");
        for name in ["PATH", "HOME", "USER"] {
            if let Some(value) = env::var_os(name) {
                run.env(name, value);
            }
        }
        if self.nobody {
            // Debian's fixed numbers of nobody and nogroup.
            run.uid(65534)
                .gid(65534)
                .env("HOME", "/nonexistent")
                .env("USER", "nobody");
        }
        run.env("LC_ALL", "C")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        run
    }

    /// Runs a command in its own agent session.
    pub fn run(&self, command: &[&str]) -> Result<Finished> {
        process::run(&mut self.command(command), "", self.limit)
    }

    /// One `psql -c` in its own agent session.
    pub fn psql(&self, port: u16, database: &str, sql: &str) -> Result<Finished> {
        let port = port.to_string();
        self.run(&[
            "psql",
            "-XAtq",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-d",
            database,
            "-c",
            sql,
        ])
    }

    /// A shell in an agent session.
    pub fn shell(&self) -> Result<Shell> {
        self.shell_by(&["sh"])
    }

    /// A shell that these words become in the end.
    pub fn shell_by(&self, words: &[&str]) -> Result<Shell> {
        Dialogue::start(&mut self.command(words)).map(Shell)
    }

    /// A connected psql in an agent session. Errors show their SQLSTATE.
    pub fn open_psql(&self, port: u16, database: &str) -> Result<Psql> {
        let port = port.to_string();
        let words = [
            "psql",
            "-XAtq",
            "-v",
            "VERBOSITY=verbose",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
        ];
        let words: Vec<&str> = words.into_iter().chain(["-d", database]).collect();
        Dialogue::start(&mut self.command(&words)).map(Psql)
    }
}

/// A program that is told lines and answers on its output.
#[derive(Debug)]
struct Dialogue {
    // The process before the file: fields are dropped in this order.
    process: Process,
    stdin: ChildStdin,
    output: NamedTempFile,
    seen: usize,
    number: u32,
}

impl Dialogue {
    fn start(command: &mut Command) -> Result<Self> {
        let output = NamedTempFile::new().context("temporary file")?;
        let file = output.as_file();
        command.stdin(Stdio::piped());
        command
            .stdout(file.try_clone().context("dup")?)
            .stderr(file.try_clone().context("dup")?);
        let mut process = Process::spawn(command, Signal::SIGKILL)?;
        let stdin = process.take_stdin().context("no stdin pipe")?;
        Ok(Self {
            process,
            stdin,
            output,
            seen: 0,
            number: 0,
        })
    }

    /// A line that the program can't have printed before.
    fn marker(&mut self) -> String {
        self.number += 1;
        format!("--done-{}-", self.number)
    }

    /// Says something, and returns what was printed up to the line that starts with the
    /// marker, and that line.
    fn ask(&mut self, text: &str, marker: &str, limit: Duration) -> Result<(String, String)> {
        // A program that has ended is reported below, with what it had printed.
        let _ = self
            .stdin
            .write_all(text.as_bytes())
            .and_then(|()| self.stdin.flush());
        wait::until("an answer", limit, || {
            // Ended first, read second: what it printed last is not missed.
            let ended = self.process.ended()?;
            let all = std::fs::read(self.output.path()).context("read the output")?;
            let new =
                String::from_utf8_lossy(all.get(self.seen..).unwrap_or_default()).into_owned();
            if let Some((before, line)) = split_at_marker(&new, marker) {
                self.seen = all.len();
                return Ok(Some((before.to_owned(), line.to_owned())));
            }
            match ended {
                Some(status) => bail!("the agent's program ended ({status}): {new}"),
                None => Ok(None),
            }
        })
        .with_context(|| {
            let all = std::fs::read(self.output.path()).unwrap_or_default();
            let new = all.get(self.seen..).unwrap_or_default();
            format!(
                "it was told: {text}it said: {}",
                String::from_utf8_lossy(new)
            )
        })
    }
}

/// Splits at a whole line that starts with the marker.
fn split_at_marker<'t>(text: &'t str, marker: &str) -> Option<(&'t str, &'t str)> {
    let start = text.find(marker)?;
    let (before, rest) = text.split_at(start);
    let end = rest.find('\n')?;
    Some((before, &rest[..end]))
}

/// A shell in an agent session.
#[derive(Debug)]
pub struct Shell(Dialogue);

impl Shell {
    /// Runs a command line: what it printed on both streams, and its exit code.
    pub fn run(&mut self, line: &str, limit: Duration) -> Result<(String, i32)> {
        let marker = self.0.marker();
        let text = format!("{{ {line}\n}} </dev/null 2>&1; echo \"{marker}$?\"\n");
        let (output, last) = self.0.ask(&text, &marker, limit)?;
        let code = last
            .trim_start_matches(&marker)
            .parse()
            .context("exit code")?;
        Ok((output, code))
    }

    /// The shell's process id.
    pub fn pid(&self) -> u32 {
        self.0.process.pid()
    }
}

/// A connected psql in an agent session.
#[derive(Debug)]
pub struct Psql(Dialogue);

impl Psql {
    /// Sends statements as one message each: rows and errors as psql prints them.
    pub fn query(&mut self, sql: &str) -> Result<String> {
        let marker = self.0.marker();
        let text = format!("{sql};\n\\echo {marker}\n");
        self.0.ask(&text, &marker, LIMIT).map(|(output, _)| output)
    }

    /// psql's process id.
    pub fn pid(&self) -> u32 {
        self.0.process.pid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gives_output_and_exit_code_of_each_line() {
        let mut shell = Shell(Dialogue::start(&mut Command::new("sh")).expect("sh"));
        let limit = Duration::from_secs(10);
        assert_eq!(
            shell.run("echo one; echo two >&2", limit).expect("runs"),
            ("one\ntwo\n".into(), 0)
        );
        assert_eq!(
            shell.run("exec 3<&0; cat; false", limit).expect("runs"),
            (String::new(), 1)
        );
        let error = shell.run("exit 4", limit).expect_err("it ended");
        assert!(format!("{error:#}").contains("exit status: 4"), "{error:#}");
    }

    #[test]
    fn psql_stays_connected_between_queries() {
        let server = crate::shop::server().expect("server");
        let mut command = Command::new("psql");
        command.args([
            "-XAtq",
            "-v",
            "VERBOSITY=verbose",
            "-h",
            "127.0.0.1",
            "-U",
            "agent_ro",
        ]);
        command.args(["-p", &server.port().to_string(), "-d", "shop"]);
        let mut psql = Psql(
            Dialogue::start(command.env("PGPASSWORD", server.agent_password())).expect("psql"),
        );
        let first = psql.query("select pg_backend_pid()").expect("answers");
        let error = psql.query("select * from nothing").expect("answers");
        assert!(error.contains("42P01"), "{error}");
        assert_eq!(
            psql.query("select pg_backend_pid()").expect("answers"),
            first
        );
    }
}
