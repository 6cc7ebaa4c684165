//! Free ports on the loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// A port that was free a moment ago, from the kernel's ephemeral range.
pub fn free() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind 127.0.0.1:0")?;
    Ok(listener.local_addr().context("getsockname")?.port())
}

/// A privileged port (below 1024) that was free a moment ago: what the gate listens on, so
/// that no ordinary user can take the place of a dead daemon. Root only.
pub fn free_privileged() -> Result<u16> {
    const FIRST: u16 = 600;
    const COUNT: u16 = 424;
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos())
        ^ std::process::id();
    let start = u16::try_from(seed % u32::from(COUNT)).unwrap_or(0);
    for step in 0..COUNT {
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and 1023 on 127.0.0.1 (not root?)")
}
