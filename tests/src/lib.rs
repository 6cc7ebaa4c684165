//! Shared guards for tests and xtask.

pub mod bpffs;
pub mod cgroup;
pub mod netns;
