//! Agent sessions: which cgroup acts for whom, and until when.
//!
//! A session belongs to a cgroup and ends with it, or earlier: when its time is up, when it
//! is revoked, when the session that it was started from ends. Absent: how a principal is
//! known, which is for the policy and for whoever starts the session.

mod registry;
mod session;

pub use registry::{Live, Registry};
pub use session::{AgentSession, Ending, Expiry, IdentityError, Now};

#[cfg(test)]
mod tests;
