//! Why a credential can't be handed out. No text has any part of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::web::WebError;

/// The credential can't be handed out; our configuration, or the place it is kept in, is
/// to blame.
#[derive(Debug, Error)]
pub enum VaultError {
    /// A system call failed.
    #[error("cannot read the credential file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else than root may read or change it.
    #[error(
        "the credential file {path} has mode {mode:04o} and owner {uid}: \
         it must be a file of mode 0600 or 0400 that belongs to the daemon's user"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// Nothing usable in it.
    #[error("the credential {from} {problem}")]
    Content {
        /// Where it is from.
        from: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The service manager gave no credentials.
    #[error(
        "there is no credential `{0}` of the service manager: $CREDENTIALS_DIRECTORY is not set; \
         give it to the daemon with LoadCredential= or SetCredentialEncrypted= in its unit"
    )]
    NoDirectory(String),
    /// The variable was not there when the daemon started.
    #[error(
        "the variable {0} was not in the daemon's environment when it started, or the policy \
         did not name it then: set it and restart the daemon"
    )]
    NoVariable(String),
    /// Others could put another program in its place.
    #[error(
        "the program {path} has mode {mode:04o} and owner {uid}: it must be a file that belongs \
         to root or the daemon's user and that nobody else may write to"
    )]
    Loose {
        /// The program.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// It does not run.
    #[error("cannot run {path}: {source}{}", locked(.source))]
    Start {
        /// The program.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It ran, and not well.
    #[error("{path} {problem}{}", quoted(.said))]
    Helper {
        /// The program.
        path: String,
        /// What happened.
        problem: String,
        /// The first line of its standard error, cut short.
        said: String,
    },
    /// It did not end.
    #[error("{path} did not end within {timeout:?}, and was killed")]
    Timeout {
        /// The program.
        path: String,
        /// The bound.
        timeout: Duration,
    },
    /// No server is configured.
    #[error("the policy names a place in Vault, and the daemon's configuration has no `vault:`")]
    NoServer,
    /// No whole answer.
    #[error("Vault: {0}")]
    Web(#[from] WebError),
    /// 503.
    #[error("Vault at {0} is sealed, or not initialised: unseal it")]
    Sealed(String),
    /// 403.
    #[error(
        "Vault refuses {what} (403): the token is wrong or expired, or its policy does not \
         allow it"
    )]
    Denied {
        /// What was asked.
        what: String,
    },
    /// 404.
    #[error("Vault has nothing at {0}, or the version there is deleted")]
    NotFound(String),
    /// A redirect, or the status of a standby.
    #[error(
        "Vault at {0} is a standby: let `vault.address` be the active server's, or a balancer's"
    )]
    Standby(String),
    /// Any other status.
    #[error("Vault answered {what} with status {status}")]
    Status {
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
    },
    /// Not what the documentation says.
    #[error("Vault's answer to {what} {problem}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The way in, and not the place that was asked for; others who waited have it too.
    #[error("{0}")]
    Login(Arc<VaultError>),
    /// Nothing is handed out any more.
    #[error("the daemon stops")]
    Stopped,
    /// The policy has changed since the permit was given.
    #[error("the policy does not name this credential any more")]
    NotNamed,
    /// The source has no such thing.
    #[error("the lease can't be renewed")]
    NotRenewable,
}

fn quoted(said: &str) -> String {
    if said.is_empty() {
        return String::new();
    }
    format!(": {}", said.escape_debug())
}

/// The daemon's own filter answers EPERM where the policy at start named no program.
fn locked(source: &io::Error) -> &'static str {
    if source.raw_os_error() == Some(libc::EPERM) {
        " (the daemon may run programs only if the policy named one when it started: restart it)"
    } else {
        ""
    }
}
