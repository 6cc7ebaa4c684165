//! Which compiler and linker are on this machine.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{BuildError, clear_cargo_env, run};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build `core`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's nightly, with the `rust-src` component.
    Nightly,
    /// Debian's `/usr/bin/rustc` with its source package, told to take `-Z` flags.
    Debian,
}

/// A compiler and a linker for the kernel programs.
#[derive(Debug, Clone)]
pub struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = match self.compiler {
            Compiler::Nightly => "nightly with rust-src",
            Compiler::Debian => "/usr/bin/rustc with its source package",
        };
        write!(f, "{compiler}, {}", self.linker.display())
    }
}

impl Toolchain {
    /// Looks for both: first a nightly, then Debian's compiler.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn find() -> Result<Self, BuildError> {
        Ok(Self {
            compiler: find_compiler()?,
            linker: find_linker()?,
        })
    }

    /// Which compiler it is.
    pub fn compiler(&self) -> Compiler {
        self.compiler
    }

    pub(crate) fn linker(&self) -> &Path {
        &self.linker
    }

    /// A cargo command for this compiler, free of what a cargo around us has set.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self.compiler {
            Compiler::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            Compiler::Debian => Command::new(env::var_os("CARGO").unwrap_or("cargo".into())),
        };
        clear_cargo_env(&mut command);
        command.env("RUSTUP_AUTO_INSTALL", "0");
        if self.compiler == Compiler::Debian {
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

pub(crate) fn find_compiler() -> Result<Compiler, BuildError> {
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc"]);
    if has_source(nightly) {
        return Ok(Compiler::Nightly);
    }
    if has_source(Command::new(DEBIAN_RUSTC)) {
        return Ok(Compiler::Debian);
    }
    Err(BuildError::NoCompiler)
}

/// Does this compiler have its library's source where `-Z build-std` looks for it?
fn has_source(mut rustc: Command) -> bool {
    clear_cargo_env(&mut rustc);
    rustc.env("RUSTUP_AUTO_INSTALL", "0");
    rustc.args(["--print", "sysroot"]);
    run(&mut rustc, "rustc").is_ok_and(|sysroot| {
        let library = "lib/rustlib/src/rust/library/core/Cargo.toml";
        Path::new(sysroot.trim()).join(library).exists()
    })
}

pub(crate) fn find_linker() -> Result<PathBuf, BuildError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
        .ok_or(BuildError::NoLinker)
}
