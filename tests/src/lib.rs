//! Guards that the tests and `cargo xtask` share: real servers, the daemon, agents.
//!
//! Each guard ends what it started, and only that, when it is dropped (on panic too), and
//! removes what it made. Nothing waits for luck: every wait polls and has a deadline.
//! Absent on purpose: the `portcullis` crate itself, so that xtask builds without libclang
//! and without the compiler for the kernel programs. The binaries are tested from outside.

pub mod agent;
pub mod audit;
pub mod bpffs;
pub mod cgroup;
pub mod daemon;
pub mod issuer;
pub mod leftovers;
pub mod memory;
pub mod netns;
pub mod paths;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod shop;
pub mod wait;
