//! What `portcullis run` takes from a process before it becomes the agent.
//!
//! The kernel programs of the gate see the agent's inet sockets. This module closes what
//! they can't see: other socket families, descriptors and processes from outside,
//! capabilities, namespaces, mounts, and, for a root caller, root's own files. It works
//! without BPF LSM and without the daemon's help, and can't be undone by the agent.
//! Absent on purpose: cgroups and sessions, which are the daemon's; any choice by policy.

pub(crate) mod calls;
mod confine;
mod error;
mod filter;
mod identity;
#[cfg(test)]
pub(crate) mod machine;
mod mounts;
pub(crate) mod rules;
pub mod streams;
mod view;

pub use confine::{Orders, confine, process_guard, writable};
pub use error::LaunchError;
pub use identity::Identity;
