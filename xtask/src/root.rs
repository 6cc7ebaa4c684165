//! Commands that load kernel programs need root.

use anyhow::{Result, bail};

/// An error that says why, unless we are root.
pub fn require(command: &str, why: &str) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    // "Uid: real effective saved filesystem" (proc(5)).
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|uids| uids.split_whitespace().nth(1));
    if uid == Some("0") {
        return Ok(());
    }
    bail!("`cargo xtask {command}` must run as root: {why}")
}
