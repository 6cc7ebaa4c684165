//! `cargo xtask build-ebpf`: the kernel programs alone, by the daemon's own build script.

use anyhow::{Context, Result, bail};

use crate::build;

/// Builds them. The daemon's build script does the same; this command shows what it says.
pub fn run() -> Result<()> {
    let mut check = build::cargo();
    check.args(["build", "--package", "portcullis", "--lib", "-vv"]);
    let status = check.status().context("start cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}; `cargo xtask setup` installs what is missing");
    }
    Ok(())
}
