//! Why an agent was not started. Each in one line that says what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The launcher refuses, or the kernel refused it.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LaunchError {
    #[error(
        "{stream} is {what}: a socket or device that was opened outside the session is a way \
         round the gate; give the agent a terminal, a pipe or a file there"
    )]
    Stream { stream: String, what: String },
    #[error("--user needs root: you can only run an agent as yourself")]
    NotRoot,
    #[error("there is no user \"{0}\" on this host")]
    NoUser(String),
    #[error(
        "you are in the group {0}, which opens a way round the gate: start the agent as a user \
         that is not (as root: `portcullis run --user NAME`), or accept it with --keep-groups"
    )]
    Group(String),
    #[error("the primary group of {user} is {group}, which opens a way round the gate")]
    PrimaryGroup { user: String, group: String },
    #[error("--writable needs root: the agent of an ordinary user can write what you can")]
    WritableNotRoot,
    #[error("--writable {0}: not a directory that an agent may write to (docs/launcher.md)")]
    Writable(PathBuf),
    #[error("{call} {path}: {source}")]
    Path {
        call: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{call}: {source}")]
    Call {
        call: &'static str,
        source: io::Error,
    },
    #[error("cannot make the seccomp filter: {0}")]
    Filter(#[from] seccompiler::Error),
    #[error("cannot restrict the agent with Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
}

impl LaunchError {
    pub(super) fn path(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { call, path, source }
    }

    pub(super) fn call(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { call, source }
    }

    pub(super) fn errno(call: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self::Call {
            call,
            source: errno.into(),
        }
    }
}
