//! `cargo xtask setup`: installs what building and testing need, and only what is missing.
//!
//! Packages of Debian for the servers and compilers, the tool chain for the kernel programs
//! (`portcullis-ebpf-builder` knows it), psycopg 3 in `target/venv`, an OpenID provider in
//! `target/oidc`. Installing a server's package starts no server: a `policy-rc.d` forbids
//! that for the time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use portcullis_tests::paths;

use crate::root;

/// What each is for.
const PACKAGES: &[(&str, &str)] = &[
    ("build-essential", "C compiler for libpg_query"),
    ("pkg-config", "finds C libraries"),
    ("libclang-dev", "bindgen, for libpg_query"),
    (
        "postgresql-15",
        "the server that the tests and the demo use",
    ),
    ("postgresql-client-15", "psql"),
    ("postgresql-contrib", "pgbench"),
    ("pgbouncer", "the benchmark's comparison"),
    ("busybox", "a small client for agents of the tests"),
    ("iproute2", "makes the tests' network namespaces"),
    ("runc", "runs the tests' containers"),
    ("python3", "runs agents of the tests"),
    ("python3-venv", "psycopg 3 has its own environment"),
    ("bzip2", "unpacks the source of PostgreSQL's test suites"),
    ("nodejs", "runs the tests' OpenID provider"),
    ("npm", "installs the tests' OpenID provider"),
];

/// Packages that another package provides or contains, by a file that shows it.
const SHOWN_BY: &[(&str, &str)] = &[
    ("postgresql-contrib", "/usr/lib/postgresql/15/bin/pgbench"),
    ("busybox", "/usr/bin/busybox"),
    ("nodejs", "/usr/bin/node"),
    ("npm", "/usr/bin/npm"),
];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing.
pub fn run() -> Result<()> {
    install(PACKAGES)?;
    portcullis_ebpf_builder::setup(|step| println!("setup: {step}"))?;
    venv()?;
    oidc()
}

/// Installs the Debian packages of a list that are missing; each comes with its purpose.
pub fn install(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !is_installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    root::require("setup", "it installs Debian packages")?;
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "no apt-get here; install these by hand: {}",
        missing.join(" ")
    );
    for (name, why) in packages.iter().filter(|(name, _)| missing.contains(name)) {
        println!("setup: {name} is missing ({why})");
    }
    let _quiet = NoServices::new()?;
    apt(&["update", "-qq"])?;
    let mut words = vec!["install", "-qq", "-y", "--no-install-recommends"];
    words.extend(missing);
    apt(&words)
}

fn is_installed(name: &str) -> bool {
    if let Some((_, file)) = SHOWN_BY.iter().find(|(package, _)| *package == name) {
        return Path::new(file).exists();
    }
    let mut query = Command::new("dpkg-query");
    query
        .args(["-W", "-f", "${db:Status-Status}", name])
        .stderr(Stdio::null());
    query.output().is_ok_and(|done| done.stdout == b"installed")
}

fn apt(words: &[&str]) -> Result<()> {
    println!("setup: apt-get {}", words.join(" "));
    let mut command = Command::new("apt-get");
    command
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    succeed(&mut command)
}

fn venv() -> Result<()> {
    let venv = super::build::target_dir().join("venv");
    let python = venv.join("bin/python");
    let has_psycopg = || {
        let mut import = Command::new(&python);
        import.args(["-c", "import psycopg"]).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    if has_psycopg() {
        return Ok(());
    }
    println!("setup: psycopg 3 into {}", venv.display());
    // Debian's own interpreter: it is the one that python3-venv belongs to.
    succeed(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "psycopg[binary]",
    ];
    succeed(Command::new(&python).args(pip))?;
    ensure!(
        has_psycopg(),
        "psycopg is installed in {} but can't be imported",
        venv.display()
    );
    Ok(())
}

/// The tests' OpenID provider, exactly as its lock file has it, into `target/oidc`.
fn oidc() -> Result<()> {
    let from = paths::fixture("oidc");
    let to = super::build::target_dir().join("oidc");
    let lock = fs::read(from.join("package-lock.json")).context("read package-lock.json")?;
    // Written last: an installation that broke off is done again.
    let done = to.join("installed-lock.json");
    if fs::read(&done).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    println!("setup: oidc-provider into {}", to.display());
    fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("copy {name}"))?;
    }
    let words = [
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ];
    succeed(Command::new("npm").args(words).current_dir(&to))?;
    fs::write(&done, lock).with_context(|| format!("write {}", done.display()))
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// While it lives, package scripts start no services, unless the machine has its own
/// policy for that.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            return Ok(Self { ours: false });
        }
        fs::write(path, "#!/bin/sh\nexit 101\n").with_context(|| format!("write {POLICY}"))?;
        let guard = Self { ours: true };
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("chmod")?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("setup: remove {POLICY}: {error}");
        }
    }
}
