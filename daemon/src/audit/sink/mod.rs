//! Where lines go.

pub(super) mod file;
pub(super) mod journald;
