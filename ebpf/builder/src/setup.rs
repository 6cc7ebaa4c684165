//! Installs what the build of the kernel programs needs and this machine lacks.

use std::process::Command;

use crate::toolchain::{find_compiler, find_linker};
use crate::{BuildError, Toolchain, clear_cargo_env, run};

const PACKAGES: [&str; 6] = [
    "rustc-web",
    "rust-web-src",
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
];
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";

/// Installs the missing parts (Debian packages as root, `bpf-linker` by cargo), telling
/// `say` before each step, and returns what it found or made.
///
/// # Errors
/// A step failed: its output is in the error.
pub fn setup(mut say: impl FnMut(&str)) -> Result<Toolchain, BuildError> {
    let no_compiler = find_compiler().is_err();
    let no_linker = find_linker().is_err();
    if no_compiler || no_linker {
        say(&format!("apt-get install {}", PACKAGES.join(" ")));
        apt_get(&["update"])?;
        apt_get(
            &[
                &["install", "--yes", "--no-install-recommends"],
                &PACKAGES[..],
            ]
            .concat(),
        )?;
    }
    if no_linker {
        say(&format!("cargo install bpf-linker {LINKER_VERSION}"));
        install_linker()?;
    }
    let toolchain = Toolchain::find()?;
    say(&format!("kernel programs: {toolchain}"));
    Ok(toolchain)
}

fn apt_get(args: &[&str]) -> Result<(), BuildError> {
    let mut command = Command::new("apt-get");
    command
        .arg("-q")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command, &format!("apt-get {}", args.join(" "))).map(drop)
}

fn install_linker() -> Result<(), BuildError> {
    let mut command = Command::new("cargo");
    clear_cargo_env(&mut command);
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
        ])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env("RUSTFLAGS", format!("-L native={LLVM_PREFIX}/lib"));
    run(&mut command, "cargo install bpf-linker").map(drop)
}
