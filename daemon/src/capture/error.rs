//! What can go wrong at the gate, each in one line that names the call, the object and,
//! where there is one, the way to fix it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use thiserror::Error;

/// A failure of the capture layer. None of them opens the gate.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CaptureError {
    #[error("the gate needs root (CAP_BPF, CAP_NET_ADMIN): start the daemon as root")]
    NotRoot,
    #[error("this kernel is Linux {0}: the gate needs 6.1 or newer")]
    OldKernel(String),
    #[error(
        "no cgroup2 file system in /proc/self/mountinfo: mount one \
         (mount -t cgroup2 none /sys/fs/cgroup), or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NoCgroup2,
    #[error(
        "the kernel has no BTF (/sys/kernel/btf/vmlinux is missing): \
         use one built with CONFIG_DEBUG_INFO_BTF, Linux 6.1 or newer"
    )]
    NoBtf,
    #[error("{call} {path}: {source}")]
    Io {
        call: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("another daemon holds the gate (lock on {0}): stop it first")]
    Busy(PathBuf),
    #[error(
        "the pins in {path} are of another version ({what}): end all sessions, \
         run `portcullisd --release`, and start again"
    )]
    OtherVersion { path: PathBuf, what: String },
    #[error(
        "the pinned link {0} holds another cgroup than the configured one: \
         run `portcullisd --release` with the old configuration first"
    )]
    OtherCgroup(PathBuf),
    #[error("can't load the kernel programs: {}", chain(.0))]
    Object(Box<EbpfError>),
    #[error("the embedded object has no {0}: the daemon was built wrongly")]
    Missing(&'static str),
    #[error("program {name}: {}", program_chain(.cause))]
    Program {
        name: &'static str,
        cause: Box<ProgramError>,
    },
    #[error("link {name}: {}", chain(.cause))]
    Link {
        name: &'static str,
        cause: LinkError,
    },
    #[error("pin {path}: {}", chain(.cause))]
    Pin { path: PathBuf, cause: PinError },
    #[error("map {name}: {}", chain(.cause))]
    Map { name: &'static str, cause: MapError },
    #[error("{hook} is not in force on {cgroup}: the kernel does not list our program there")]
    NotInForce { hook: &'static str, cgroup: PathBuf },
    #[error("the LSM program {0} is not in force: its link is gone")]
    LsmNotInForce(&'static str),
}

impl CaptureError {
    pub(super) fn io(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { call, path, source }
    }

    pub(super) fn program(name: &'static str) -> impl FnOnce(ProgramError) -> Self {
        move |cause| Self::Program {
            name,
            cause: Box::new(cause),
        }
    }

    pub(super) fn map(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |cause| Self::Map { name, cause }
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line.replace('\n', " ")
}

/// The same without the verifier's log, which goes to the debug log.
fn program_chain(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            tracing::debug!(%verifier_log, "program refused by the kernel");
            format!("the kernel refused it (BPF_PROG_LOAD): {io_error}; is it older than 6.1?")
        }
        other => chain(other),
    }
}
