//! Shared guards for tests and xtask.
