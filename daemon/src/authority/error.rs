//! What can be wrong with the authority; each says what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The authority can't be used, made or asked to sign.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// There is none.
    #[error(
        "there is no authority in {0}: portcullisd makes one when it starts, and so does \
         `portcullis authority make`"
    )]
    None(PathBuf),
    /// A system call failed.
    #[error("the authority: {call} {path}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The object.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Others can read or change it.
    #[error(
        "the authority: {path} (mode {mode:04o}, owner {uid}) must be a {kind} that belongs to \
         root and that nobody else can {what}: whoever could may hold its key, so remove it and \
         a new authority is made"
    )]
    Exposed {
        /// The object.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// What it must be.
        kind: &'static str,
        /// What others must not be able to do.
        what: &'static str,
    },
    /// Agents that were alive could reach it before they were kept from it.
    #[error(
        "the authority: {path} was there before agents that were alive were kept from it, and may \
         be theirs or known to them: remove it and a new one is made. Only if it is yours for \
         certain, end all agents and remove {mark}"
    )]
    Doubted {
        /// The authority.
        path: PathBuf,
        /// What says so.
        mark: PathBuf,
    },
    /// It is not what was written.
    #[error("the authority: {path}: {problem}: put it back, or remove it and a new one is made")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A certificate can't be made.
    #[error("the authority can't sign for {names}: {problem}")]
    Sign {
        /// For whom it should be.
        names: String,
        /// Why not.
        problem: String,
    },
}
