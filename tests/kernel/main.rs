//! Tests of the gate on the real kernel, as root. Where a right is missing they fail.
//!
//! Each test has its own enforced cgroup, bpf file system and pins, and speaks through
//! `portcullis::capture` only. What an agent would do is done by `agent`, a process of
//! this same binary; the sockets that only Python makes easily, by `escape`.

mod agent;
mod bad;
mod bench;
mod cost;
mod deny;
mod dns;
mod escape;
mod leaks;
mod pins;
mod redirect;
mod routes;
mod socket;
mod unix;
mod world;
