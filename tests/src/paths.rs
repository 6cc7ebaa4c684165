//! Where things are: the source tree, the built binaries, the servers' programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    workspace().join("tests/fixtures").join(name)
}

/// The directory of the running program's build profile, as `target/debug`. The environment
/// variable `PORTCULLIS_BIN_DIR` takes precedence, to test an installed package.
pub fn profile_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("PORTCULLIS_BIN_DIR") {
        return Ok(dir.into());
    }
    let exe = env::current_exe().context("the path of this program")?;
    let dir = exe.parent().context("this program has no directory")?;
    let dir = match dir.file_name() {
        Some(name) if name == "deps" => dir.parent().unwrap_or(dir),
        _ => dir,
    };
    Ok(dir.to_path_buf())
}

/// The Python that has psycopg 3, which `cargo xtask setup` puts into `target/venv`.
pub fn venv_python() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile.parent().unwrap_or(&profile);
    let python = target.join("venv/bin/python");
    if !python.exists() {
        bail!("{} is missing: run `cargo xtask setup`", python.display());
    }
    Ok(python)
}

/// The node modules of the OpenID provider, which `cargo xtask setup` puts into
/// `target/oidc`.
pub fn oidc_modules() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile.parent().unwrap_or(&profile);
    let modules = target.join("oidc/node_modules");
    if !modules.join("oidc-provider").exists() {
        bail!("{} is missing: run `cargo xtask setup`", modules.display());
    }
    Ok(modules)
}

/// The two binaries under test.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `portcullisd`.
    pub daemon: PathBuf,
    /// `portcullis`.
    pub client: PathBuf,
}

impl Binaries {
    /// The binaries of a directory.
    pub fn in_dir(dir: &Path) -> Result<Self> {
        let found = Self {
            daemon: dir.join("portcullisd"),
            client: dir.join("portcullis"),
        };
        for path in [&found.daemon, &found.client] {
            if !path.exists() {
                bail!(
                    "{} is missing: run `cargo build -p portcullis`",
                    path.display()
                );
            }
        }
        Ok(found)
    }

    /// The binaries beside the running program.
    pub fn built() -> Result<Self> {
        Self::in_dir(&profile_dir()?)
    }
}

/// PostgreSQL's server programs: the newest version under Debian's directory.
pub fn postgres_bin() -> Result<PathBuf> {
    let base = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(base)
        .with_context(|| format!("{} is missing: run `cargo xtask setup`", base.display()))?;
    versions
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        })
        .max_by_key(|(version, _)| *version)
        .map(|(_, bin)| bin)
        .with_context(|| {
            format!(
                "no initdb under {}: run `cargo xtask setup`",
                base.display()
            )
        })
}
