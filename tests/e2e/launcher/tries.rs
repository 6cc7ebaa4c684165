//! Ways out that a test tries, inside a session and outside.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use portcullis_tests::agent::Agent;
use portcullis_tests::paths::fixture;
use portcullis_tests::process::{self, Finished};

use super::{LIMIT, PYTHON};

/// The fixture, where every user can read it.
pub(super) struct Tries {
    pub(super) dir: tempfile::TempDir,
}

impl Tries {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::copy(fixture("ways_out.py"), dir.path().join("ways_out.py")).expect("copy");
        Self { dir }
    }

    pub(super) fn words(&self, tries: &[String]) -> Vec<String> {
        let script = self.dir.path().join("ways_out.py").display().to_string();
        let words = [PYTHON.to_owned(), script];
        words.into_iter().chain(tries.iter().cloned()).collect()
    }

    pub(super) fn inside(&self, agent: &Agent<'_>, tries: &[String]) -> HashMap<String, String> {
        let words = self.words(tries);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        answers(&agent.run(&words).expect("runs"))
    }

    pub(super) fn outside(&self, nobody: bool, tries: &[String]) -> HashMap<String, String> {
        let words = self.words(tries);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if nobody {
            command.uid(65534).gid(65534);
        }
        answers(&process::run(&mut command, "", LIMIT).expect("runs"))
    }
}

pub(super) fn answers(done: &Finished) -> HashMap<String, String> {
    assert_eq!(done.code(), 0, "{}", done.both());
    let split = |line: &str| {
        let (name, answer) = line.rsplit_once(": ").expect("name: answer");
        (name.to_owned(), answer.to_owned())
    };
    done.stdout.lines().map(split).collect()
}
