//! One agent session: who acts from which cgroup, since when, and until when.
//!
//! It is written into an extended attribute of its own cgroup directory
//! (`trusted.portcullis.session`, readable and writable by CAP_SYS_ADMIN only, kernel
//! 5.7 for cgroup2). So it survives the daemon, dies with the cgroup, and can't be
//! mistaken when a cgroup id is used again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{CgroupId, Principal, SessionId};

pub(super) const ATTRIBUTE: &str = "trusted.portcullis.session";

/// A session's identity can't be kept or read.
#[derive(Debug, Error)]
#[error("cannot {call} the session attribute of cgroup {}: {source}", path.display())]
pub struct IdentityError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// One agent session. What never changes stands first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSession {
    /// Its id; also its directory's name, unless a cgroup of somebody else is bound.
    pub id: SessionId,
    /// The cgroup directory.
    pub path: PathBuf,
    /// Kernel id of that directory.
    pub cgroup: CgroupId,
    /// The user that started it.
    pub uid: u32,
    /// When, as RFC 3339 text.
    pub started: String,
    /// The sessions that it was started from inside of, outermost first.
    #[serde(default)]
    pub chain: Vec<SessionId>,
    /// Whom it acts for.
    pub principal: Principal,
    /// Until when at the latest, as it was asked for: no renewal lifts this.
    #[serde(default)]
    pub limit: Option<Expiry>,
    /// Until when: the nearest of that, of what its proof gives, and of the outer session.
    #[serde(default)]
    pub expiry: Option<Expiry>,
    /// Why nothing passes from it any more.
    #[serde(default)]
    pub ending: Option<Ending>,
}

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It has not begun, or never did: written before the first process is moved in.
    Unbegun,
    /// No process is left in it, or its cgroup is gone.
    Left,
    /// Its time is up.
    Expired,
    /// Somebody took it back.
    Revoked,
    /// The policy binds its cgroup to nobody any more, or to somebody else.
    Unbound,
    /// It was started from inside a session that has ended.
    Outer,
}

impl Ending {
    /// The word for records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unbegun => "unbegun",
            Self::Left => "left",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unbound => "unbound",
            Self::Outer => "outer_ended",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbegun => "the agent session has not begun",
            Self::Left => "the agent session is over",
            Self::Expired => "the agent session has expired",
            Self::Revoked => "the agent session was revoked",
            Self::Unbound => "the policy binds the agent session to nobody any more",
            Self::Outer => "the session that this one was started from has ended",
        })
    }
}

/// A moment, by two clocks: whichever comes first counts, so that a clock set back gives
/// no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Seconds since 1970 (UTC).
    pub wall: i64,
    /// Time since boot, suspended time included, in milliseconds.
    boot: u64,
}

/// Whether an error of a cgroup's file says that the cgroup is gone. Any other says
/// nothing of it.
pub fn is_gone(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || number == Some(libc::ENODEV)
}

/// What both clocks say.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Seconds since 1970 (UTC).
    pub wall: i64,
    /// Milliseconds since boot, suspended time included.
    boot: u64,
}

impl Now {
    #[cfg(test)]
    pub(super) fn of(wall: i64, boot: u64) -> Self {
        Self { wall, boot }
    }

    /// Reads them.
    ///
    /// # Errors
    /// The kernel has no such clock.
    pub fn read() -> io::Result<Self> {
        let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
        Ok(Self {
            wall: jiff::Timestamp::now().as_second(),
            boot: u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl Expiry {
    /// The moment that the wall clock will call `wall`.
    pub fn at(wall: i64, now: Now) -> Self {
        let left = u64::try_from(wall.saturating_sub(now.wall)).unwrap_or(0);
        Self {
            wall,
            boot: now.boot.saturating_add(left.saturating_mul(1_000)),
        }
    }

    /// Whether it is over.
    pub fn has_passed(&self, now: Now) -> bool {
        now.wall >= self.wall || now.boot >= self.boot
    }

    /// The nearer of two, where nothing is never.
    pub fn nearer(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Self {
                wall: a.wall.min(b.wall),
                boot: a.boot.min(b.boot),
            }),
            (one, other) => one.or(other),
        }
    }
}

impl AgentSession {
    /// One of `analyst`, outermost, that lives for ever.
    #[cfg(test)]
    pub(crate) fn of_test(path: &Path, cgroup: CgroupId) -> Self {
        Self {
            id: SessionId::random(),
            path: path.to_owned(),
            cgroup,
            uid: 1000,
            started: "2026-01-01T00:00:00Z".into(),
            chain: Vec::new(),
            principal: Principal::named("analyst"),
            limit: None,
            expiry: None,
            ending: None,
        }
    }

    /// Writes the session into its cgroup.
    pub fn store(&self) -> Result<(), IdentityError> {
        let fail = |source| IdentityError {
            call: "write",
            path: self.path.clone(),
            source,
        };
        let value = serde_json::to_vec(self).map_err(|error| fail(error.into()))?;
        xattr::set(&self.path, ATTRIBUTE, &value).map_err(fail)
    }

    /// Reads the session that the cgroup `path` with kernel id `cgroup` belongs to; none
    /// if nobody wrote one, or if it speaks of another directory.
    pub fn recall(path: &Path, cgroup: CgroupId) -> Result<Option<Self>, IdentityError> {
        let fail = |source| IdentityError {
            call: "read",
            path: path.to_owned(),
            source,
        };
        let Some(value) = xattr::get(path, ATTRIBUTE).map_err(fail)? else {
            return Ok(None);
        };
        let session: Self = serde_json::from_slice(&value).map_err(|error| fail(error.into()))?;
        Ok((session.cgroup == cgroup && session.path == path).then_some(session))
    }

    /// The session around all those that it was started from inside of, or itself.
    pub fn outermost(&self) -> &SessionId {
        self.chain.first().unwrap_or(&self.id)
    }

    /// The session with a fresh proof of its principal. `proven` is when that proof ends,
    /// `outer` when the session around it does.
    pub fn renewed(
        &self,
        fresh: &Principal,
        proven: Option<Expiry>,
        outer: Option<Expiry>,
    ) -> Self {
        Self {
            principal: Principal {
                only: self.principal.only.clone(),
                ..fresh.clone()
            },
            expiry: [self.limit, proven, outer]
                .into_iter()
                .fold(None, Expiry::nearer),
            ..self.clone()
        }
    }

    /// Whether `path` is still the directory that the session was given, and not a later
    /// one of the same name.
    ///
    /// # Errors
    /// It can't be looked at; [`is_gone`] tells whether because there is none.
    pub fn is_in_place(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        Ok(CgroupId(std::fs::metadata(&self.path)?.ino()) == self.cgroup)
    }

    /// Whether the cgroup is somebody else's, bound by its path: then its directory is not
    /// ours to remove.
    pub fn is_bound(&self) -> bool {
        matches!(self.principal.proof, crate::types::Proof::Cgroup(_)) && self.chain.is_empty()
    }
}
