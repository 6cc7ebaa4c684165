//! `cargo xtask build-ebpf`: the kernel programs alone, as the daemon's build script builds
//! them; for looking at the object with `bpftool` or `llvm-objdump`.

use std::env;

use anyhow::Result;
use portcullis_ebpf_builder::Toolchain;
use portcullis_tests::paths::workspace;

use crate::build;

/// Builds them, says with which compiler and where the object is.
pub fn run() -> Result<()> {
    let toolchain = Toolchain::find()?;
    println!("kernel programs: {toolchain}");
    let (sources, target) = (workspace().join("ebpf"), build::target_dir().join("ebpf"));
    let object = portcullis_ebpf_builder::build(&toolchain, &sources, &target, env::consts::ARCH)?;
    println!("{}", object.display());
    Ok(())
}
