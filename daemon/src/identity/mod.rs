//! Agent sessions: which cgroup acts for whom, and until when.
//!
//! A session belongs to a cgroup and ends with it, or earlier: when its time is up, when it
//! is revoked, when the session that it was started from ends. Whom it acts for is said by
//! a trusted caller, by a verified [`token`], or by the cgroup's own path.

mod registry;
mod session;
pub mod token;

pub use registry::{Live, Registry};
pub use session::{AgentSession, Ending, Expiry, IdentityError, Now, is_gone};

#[cfg(test)]
mod tests;
