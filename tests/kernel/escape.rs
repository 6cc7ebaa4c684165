//! A process that tries ways out: `tests/fixtures/escape.py` in a cgroup of the test's
//! choice, one request and one answer at a time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use portcullis::capture::cgroupfs;
use portcullis_tests::netns::TestNetns;
use portcullis_tests::paths::fixture;
use serde_json::{Value, json};

/// The process.
pub struct Escape {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a try came to.
#[derive(Debug)]
pub struct Answer {
    /// Name of the errno; none if nothing refused it.
    pub errno: Option<String>,
    /// How long the try took, in milliseconds.
    pub ms: f64,
    /// What it had to say.
    pub said: Option<String>,
}

impl Escape {
    /// Starts it in the cgroup and the namespace.
    pub fn start(cgroup: &Path, netns: &TestNetns) -> Self {
        let started = netns.run(|| Ok(Self::start_outside()));
        let escape = started.expect("the namespace");
        cgroupfs::move_process(cgroup, escape.child.id()).expect("move it into its cgroup");
        escape
    }

    /// Starts it in the cgroup and this test's own namespace.
    pub fn start_here(cgroup: &Path) -> Self {
        let escape = Self::start_outside();
        cgroupfs::move_process(cgroup, escape.child.id()).expect("move it into its cgroup");
        escape
    }

    /// Starts it where the test itself is.
    pub fn start_outside() -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .arg(fixture("escape.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start python3");
        let requests = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            requests,
            answers,
        }
    }

    /// Becomes an ordinary user, for good.
    pub fn become_user(&mut self, uid: u32) {
        let answer = self.ask("uid", &json!({ "uid": uid }));
        assert_eq!(answer.errno, None, "setresuid");
    }

    /// Tries one route.
    pub fn ask(&mut self, route: &str, with: &Value) -> Answer {
        let mut request = with.clone();
        request["route"] = json!(route);
        writeln!(self.requests, "{request}").expect("write a request");
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).expect("read an answer");
        assert!(read > 0, "escape.py died at {request}");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Answer {
            errno: text("errno"),
            ms: answer["ms"].as_f64().expect("a number"),
            said: text("said"),
        }
    }
}

impl Drop for Escape {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
