//! Finds a compiler for the kernel programs and builds them.
//!
//! The programs need `core` built for the BPF target, so a compiler with its library's
//! source that takes `-Z build-std`: an ordinary nightly, or Debian's `rustc-web`. Used by
//! `daemon/build.rs` and by xtask. Invariant: nothing is installed or downloaded unless
//! [`setup`] is called. Absent: anything but the standard library.

mod setup;
mod toolchain;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use setup::setup;
pub use toolchain::{Compiler, Toolchain};

/// The target triple that the programs are built for.
pub const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "portcullis-ebpf";

/// Why the programs can't be built; one line each.
#[derive(Debug)]
pub enum BuildError {
    /// No compiler that takes `-Z build-std` has its library's source beside it.
    NoCompiler,
    /// There is no `bpf-linker`.
    NoLinker,
    /// A command could not be started: which, and why.
    Spawn(String, std::io::Error),
    /// A command failed: which, and the end of what it wrote.
    Failed(String, String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCompiler => f.write_str(
                "no compiler for the kernel programs: neither a nightly toolchain with \
                 rust-src nor /usr/bin/rustc with rust-web-src; run `cargo xtask setup`",
            ),
            Self::NoLinker => f.write_str(
                "bpf-linker is neither on PATH nor in cargo's bin directory; \
                 run `cargo xtask setup`",
            ),
            Self::Spawn(command, error) => write!(f, "can't start {command}: {error}"),
            Self::Failed(command, output) => write!(f, "{command} failed: {output}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Builds the crate in `ebpf` (a directory) below `target_dir` and returns the object's
/// path. `arch` is the architecture that the object will run on, as rustc names it.
///
/// # Errors
/// The toolchain is incomplete, or the build failed: its output is in the error.
pub fn build(
    toolchain: &Toolchain,
    ebpf: &Path,
    target_dir: &Path,
    arch: &str,
) -> Result<PathBuf, BuildError> {
    let mut command = toolchain.cargo();
    command
        .current_dir(ebpf)
        .args(["build", "--release", "--package", PACKAGE])
        .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain, arch))
        .envs([
            ("CARGO_PROFILE_RELEASE_LTO", "fat"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
            ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
            ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
            ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
        ]);
    run(&mut command, "the build of the kernel programs")?;
    Ok(target_dir.join(TARGET).join("release").join(PACKAGE))
}

fn rustflags(toolchain: &Toolchain, arch: &str) -> OsString {
    let mut linker = OsString::from("-Clinker=");
    linker.push(toolchain.linker());
    let arch = format!("bpf_target_arch=\"{arch}\"");
    let flags = ["-Cdebuginfo=2", "-Clink-arg=--btf", "--cfg", &arch];
    // The separator of CARGO_ENCODED_RUSTFLAGS.
    flags.iter().fold(linker, |mut all, flag| {
        all.push("\x1f");
        all.push(flag);
        all
    })
}

/// Runs a command with its output kept for the error.
fn run(command: &mut Command, what: &str) -> Result<String, BuildError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| BuildError::Spawn(what.to_owned(), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BuildError::Failed(what.to_owned(), text))
}

/// Takes out of a command's environment what the cargo around us put there for its own
/// build: flags, wrappers and paths for another compiler and another target.
fn clear_cargo_env(command: &mut Command) {
    const KEEP: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
        "CARGO_SOURCE_",
    ];
    const DROP: [&str; 8] = [
        "RUSTFLAGS",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
    ];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let cargos = text.starts_with("CARGO") && !KEEP.iter().any(|keep| text.starts_with(keep));
        if cargos || text.starts_with("RUSTC") || DROP.contains(&text) {
            command.env_remove(&name);
        }
    }
}
