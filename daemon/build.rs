//! Builds the kernel programs, so that the daemon carries them in itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

use portcullis_ebpf_builder::{BuildError, Toolchain, build};

fn main() {
    let ebpf = Path::new(&var("CARGO_MANIFEST_DIR")).join("../ebpf");
    for part in ["src", "Cargo.toml", "common/src", "common/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", ebpf.join(part).display());
    }
    let out = PathBuf::from(var("OUT_DIR"));
    if let Err(error) = embed(&ebpf, &out) {
        println!(
            "cargo::error={}",
            error.to_string().replace('\n', "\ncargo::error=")
        );
        exit(1);
    }
}

fn embed(ebpf: &Path, out: &Path) -> Result<(), BuildError> {
    let toolchain = Toolchain::find()?;
    let object = build(
        &toolchain,
        ebpf,
        &target_dir(out),
        &var("CARGO_CFG_TARGET_ARCH"),
    )?;
    let copy = out.join("portcullis-ebpf.o");
    std::fs::copy(&object, &copy)
        .map_err(|error| BuildError::Spawn(format!("the copy to {}", copy.display()), error))?;
    Ok(())
}

/// One directory for all profiles: the object does not depend on the daemon's, and
/// building `core` anew for each would cost half a minute.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
        .join("ebpf")
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
