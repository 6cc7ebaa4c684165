//! Building the daemon, for the commands that run it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use portcullis_tests::paths::{self, Binaries};

/// cargo's target directory.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => paths::workspace().join(dir),
        None => paths::workspace().join("target"),
    }
}

/// `cargo`, in the root of the source tree.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::workspace());
    cargo
}

/// Builds both binaries.
pub fn daemon(release: bool) -> Result<Binaries> {
    let mut build = cargo();
    build.args(["build", "--package", "portcullis", "--bins"]);
    if release {
        build.arg("--release");
    }
    let status = build.status().context("start cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    Binaries::in_dir(&target_dir().join(if release { "release" } else { "debug" }))
}
