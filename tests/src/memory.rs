//! How much memory a process holds, and held at most.

use std::fs;

use anyhow::{Context, Result};

/// Resident bytes now.
pub fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most resident bytes since the start, or since [`forget_peak`].
pub fn peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// The peak is what is resident now (proc(5), `clear_refs`).
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("clear_refs")
}

fn status(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {field}"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_vector_is_seen_until_it_is_forgotten() {
        let pid = std::process::id();
        // The kernel's counters lag by some pages: what counts is the vector.
        const SIZE: u64 = 64 << 20;
        let large = vec![1_u8; 64 << 20];
        let now = resident(pid).expect("resident");
        assert!(now > SIZE, "{now}");
        drop(large);
        let most = peak(pid).expect("peak");
        assert!(most > SIZE, "{most}");
        forget_peak(pid).expect("clear_refs");
        let most = peak(pid).expect("peak");
        assert!(most < SIZE, "{most}");
    }
}
