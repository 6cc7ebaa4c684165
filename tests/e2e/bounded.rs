//! The daemon's memory, whatever an agent sends, asks for, or does not read.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis_tests::paths::{fixture, venv_python};
use portcullis_tests::process::Process;
use portcullis_tests::{memory, wait};
use tempfile::NamedTempFile;

use crate::stage::Stage;

const MIB: u64 = 1 << 20;
/// Whatever passes through, the daemon holds at most so much more than before.
const MOST: u64 = 12 * MIB;
/// A debug build moves some 50 MB a second on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A stage whose agent may read one more table.
fn stage(limits: &str) -> Stage {
    Stage::with(|options| {
        options.policy = options
            .policy
            .replace("public.{orders,", "public.{bulk,orders,");
        options.limits = format!("{{connections: 2000, startup_seconds: 30{limits}}}");
    })
}

/// The agent at work.
struct Work<'a> {
    stage: &'a Stage,
    // The process before the file: fields are dropped in this order.
    process: Process,
    stdin: ChildStdin,
    output: NamedTempFile,
    before: u64,
}

impl<'a> Work<'a> {
    fn start(stage: &'a Stage, mode: &str) -> Self {
        // Whatever the first operation takes (the grammar, the cache) is there already.
        stage.assert_works();
        let pid = stage.daemon.pid().expect("it runs");
        memory::forget_peak(pid).expect("clear_refs");
        let python = venv_python().expect("venv").display().to_string();
        let script = fixture("bounded_agent.py").display().to_string();
        let port = stage.server.port().to_string();
        let output = NamedTempFile::new().expect("temporary file");
        let mut command = stage.agent().command(&[&python, &script, &port, mode]);
        command
            .stdin(Stdio::piped())
            .stdout(output.reopen().expect("reopen"))
            .stderr(output.reopen().expect("reopen"));
        let mut process = Process::spawn(&mut command, Signal::SIGKILL).expect("python");
        Self {
            stage,
            stdin: process.take_stdin().expect("stdin"),
            process,
            output,
            before: memory::resident(pid).expect("resident"),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.output.path()).expect("output")
    }

    /// Waits for a line of the agent.
    fn hear(&mut self, line: &str) {
        wait::until(line, LIMIT, || {
            let ended = self.process.ended()?;
            let said = self.said();
            if said.lines().any(|said| said == line) {
                return Ok(Some(()));
            }
            anyhow::ensure!(ended.is_none(), "it ended: {said}");
            Ok(None)
        })
        .expect(line);
    }

    fn answer(&mut self) {
        self.stdin.write_all(b"go on\n").expect("it listens");
    }

    /// What the daemon held more than before, at its most.
    fn more(&self) -> u64 {
        let pid = self.stage.daemon.pid().expect("it runs");
        memory::peak(pid).expect("peak").saturating_sub(self.before)
    }

    fn done(mut self) -> u64 {
        let status = self.process.wait(LIMIT).expect("it ends");
        assert!(status.success(), "{}", self.said());
        let more = self.more();
        self.stage.assert_works();
        more
    }
}

#[test]
fn a_row_of_hundreds_of_mebibytes_streams_through() {
    let stage = stage("");
    stage.fact(
        "CREATE TABLE bulk AS SELECT repeat('0123456789abcdef', 20 << 20) AS body; \
         GRANT SELECT ON bulk TO agent_ro",
    );
    let more = Work::start(&stage, "huge-row").done();
    assert!(more < MOST, "{more} bytes more");
}

#[test]
fn a_text_of_a_gibibyte_is_refused_and_not_held() {
    let stage = stage("");
    let more = Work::start(&stage, "huge-query").done();
    assert!(more < MOST, "{more} bytes more");
}

#[test]
fn who_does_not_read_blocks_the_server_and_not_the_daemons_memory() {
    let stage = stage("");
    let mut work = Work::start(&stage, "slow-reader");
    work.hear("not reading");
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    wait::until("the server to wait", LIMIT, || {
        Ok((stage.fact(blocked) == "1").then_some(()))
    })
    .expect("the server waits");
    let more = work.more();
    assert!(more < MOST, "{more} bytes more");
    work.answer();
    let more = work.done();
    assert!(more < MOST, "{more} bytes more");
}

#[test]
fn a_server_that_does_not_read_blocks_the_agent() {
    let stage = stage("");
    let mut work = Work::start(&stage, "slow-upstream");
    work.hear("in");
    let backend = stage.fact("SELECT pid FROM pg_stat_activity WHERE usename = 'agent_ro'");
    let backend = Pid::from_raw(backend.parse().expect("one backend"));
    kill(backend, Signal::SIGSTOP).expect("stop");
    work.answer();
    work.hear("blocked");
    let more = work.more();
    kill(backend, Signal::SIGCONT).expect("continue");
    assert!(more < MOST, "{more} bytes more");
    work.answer();
    let more = work.done();
    assert!(more < MOST, "{more} bytes more");
}

#[test]
fn all_connections_together_hold_no_more_than_the_limit() {
    let stage = stage(", message_bytes: 16777216, memory_bytes: 33554432");
    let mut work = Work::start(&stage, "many-held");
    work.hear("all said");
    work.answer();
    let more = work.done();
    let refused = "no memory is left";
    stage
        .daemon
        .audit_line("a refusal", |line| line.to_string().contains(refused))
        .expect("refusals");
    // 128 MiB were sent. What the allocator keeps beside is less than as much again.
    assert!(more < 2 * 33_554_432 + MOST, "{more} bytes more");
}

#[test]
fn an_idle_connection_costs_at_most_64_kib() {
    let stage = stage("");
    let mut work = Work::start(&stage, "idle");
    work.hear("first");
    let pid = stage.daemon.pid().expect("it runs");
    let before = memory::resident(pid).expect("resident");
    work.answer();
    work.hear("idle");
    let each = (memory::resident(pid).expect("resident") - before) / 200;
    assert!(each <= 64 * 1024, "{each} bytes each");
    work.answer();
    work.done();
}
