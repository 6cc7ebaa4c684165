//! What nearly every test needs: the shop's server, a daemon with its policy, an agent.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_tests::agent::{Agent, Psql};
use portcullis_tests::daemon::{Daemon, Options};
use portcullis_tests::leftovers::cgroup2_mount;
use portcullis_tests::paths::{Binaries, fixture, venv_python};
use portcullis_tests::postgres::PostgresServer;
use portcullis_tests::process::Finished;
use portcullis_tests::shop;

/// "At once", for refusals: far below any time-out, far above a busy machine's delays.
pub const AT_ONCE: Duration = Duration::from_secs(5);

/// A running set. The daemon goes first: fields are dropped in this order.
pub struct Stage {
    pub daemon: Daemon,
    pub server: PostgresServer,
}

impl Stage {
    /// The shop and the tests' policy.
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same with other options.
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let (server, options) = Self::ingredients(change);
        let daemon = Daemon::start(&binaries(), &options).expect("the daemon starts");
        Self { daemon, server }
    }

    /// The shop, with a policy of the test's own for it.
    pub fn with_policy(policy: &str, change: impl FnOnce(&mut Options)) -> Self {
        let (server, mut options) = Self::ingredients(change);
        options.policy = shop::at_port(policy, server.port()).expect("policy");
        let daemon = Daemon::start(&binaries(), &options).expect("the daemon starts");
        Self { daemon, server }
    }

    /// Files laid out, daemon not started.
    pub fn unstarted(change: impl FnOnce(&mut Options)) -> Self {
        let (server, options) = Self::ingredients(change);
        let daemon = Daemon::prepare(&binaries(), &options).expect("files");
        Self { daemon, server }
    }

    fn ingredients(change: impl FnOnce(&mut Options)) -> (PostgresServer, Options) {
        let server = shop::server().expect("PostgreSQL starts");
        let policy = shop::policy(server.port()).expect("policy");
        let mut options = Options::new(policy, server.agent_password());
        change(&mut options);
        (server, options)
    }

    /// The agent that the policy knows.
    pub fn agent(&self) -> Agent<'_> {
        Agent::new(&self.daemon, "analyst")
    }

    /// One `psql -c` on the shop, in its own session.
    pub fn psql(&self, sql: &str) -> Finished {
        self.agent()
            .psql(self.server.port(), shop::DATABASE, sql)
            .expect("psql runs")
    }

    /// A psql that stays connected to the shop.
    pub fn open_psql(&self) -> Psql {
        self.agent()
            .open_psql(self.server.port(), shop::DATABASE)
            .expect("psql starts")
    }

    /// A Python script of `tests/fixtures` in an agent session, told the server's port and
    /// then `args`.
    pub fn python(&self, script: &str, args: &[&str], limit: Duration) -> Finished {
        let python = venv_python().expect("venv").display().to_string();
        let script = fixture(script).display().to_string();
        let port = self.server.port().to_string();
        let words: Vec<&str> = [&python, &script, &port]
            .into_iter()
            .map(String::as_str)
            .chain(args.iter().copied())
            .collect();
        self.agent().limit(limit).run(&words).expect("python runs")
    }

    /// Asks the server itself, past the gate.
    pub fn fact(&self, sql: &str) -> String {
        self.server.sql(shop::DATABASE, sql).expect("superuser SQL")
    }

    /// Asserts that an agent can work.
    pub fn assert_works(&self) {
        let done = self.psql("SELECT count(*) FROM orders");
        assert_eq!(
            (done.code(), done.stdout.trim()),
            (0, "300"),
            "{}",
            done.stderr
        );
    }
}

/// The binaries beside this test program.
pub fn binaries() -> Binaries {
    Binaries::built().expect("binaries")
}

/// The cgroup that a process of an agent is in.
pub fn cgroup_of(pid: u32) -> PathBuf {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.expect("a cgroup2 line");
    assert!(path.contains("/s-"), "not in a session: {path}");
    cgroup2_mount().expect("cgroup2").join(path)
}

/// The path and arguments that run one ignored test of this program.
pub fn inside(test: &str) -> Vec<String> {
    let exe = std::env::current_exe()
        .expect("this program")
        .display()
        .to_string();
    [exe.as_str(), "--ignored", "--exact", test, "--nocapture"]
        .map(str::to_owned)
        .to_vec()
}
