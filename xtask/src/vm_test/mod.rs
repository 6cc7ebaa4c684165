//! `cargo xtask vm-test`: the gate on real systemd hosts with other kernels.
//!
//! Boots Debian 12 in qemu (TCG, so that it works without KVM) on Debian's kernels, one
//! after the other, installs the daemon there with `vagrant/provision.sh`, runs
//! `tests/vm/guest/run.py` inside, and prints what it found. The root file system and the
//! kernels are built once and kept below `target/vm`. `cargo xtask test` runs one kernel.
//! Invariant: no virtual machine outlives the command, and none has a network device.
//! Absent: what is tested, which is in `tests/vm`.

mod image;
mod kernels;
mod machine;
mod report;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use portcullis_tests::paths::workspace;
use portcullis_tests::process;

use crate::test_counts::Counts;
use crate::{build, root, setup};
use kernels::{KERNELS, Kernel};
use report::Report;

/// What building an image and booting it needs.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-x86", "the virtual machine"),
    ("mmdebstrap", "makes the root file system"),
    ("kmod", "finds the modules of the initramfs"),
    ("busybox-static", "the initramfs's shell"),
    ("cpio", "packs the initramfs"),
    ("xz-utils", "unpacks kernel modules"),
    ("e2fsprogs", "makes the disk image"),
];

/// Arguments of `cargo xtask vm-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// 6.1, 6.12, newest, 5.10 (which must be refused), or all of them.
    #[arg(long, default_value = "all")]
    kernel: String,
    /// Only these parts of `tests/vm`: service, hidden, narrower, cost, routes.
    #[arg(long)]
    only: Option<String>,
    /// Build the disk image anew.
    #[arg(long)]
    rebuild: bool,
    /// Test the release binaries; the debug ones are quicker to build.
    #[arg(long)]
    release: bool,
    /// Write the tables into docs/gate.md; takes all kernels and the routes.
    #[arg(long)]
    write: bool,
}

/// The kernel of `cargo xtask test`: it has all that the gate can use.
const USUAL: &str = "6.12";

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let whole = args.kernel == "all" && args.only.as_deref().is_none_or(|only| only == "routes");
    ensure!(
        whole || !args.write,
        "--write takes all kernels and the routes"
    );
    let reports = reports(args)?;
    let bad: Vec<&str> = reports
        .iter()
        .filter(|report| !report.is_good())
        .map(|report| report.kernel.name)
        .collect();
    ensure!(bad.is_empty(), "failed on Linux {}", bad.join(", "));
    if args.write {
        report::write(&workspace().join("docs/gate.md"), &reports)?;
    }
    Ok(())
}

/// Everything on the usual kernel; the counts, and whether all is well.
pub fn usual() -> Result<(Counts, bool)> {
    let args = Args {
        kernel: USUAL.into(),
        only: None,
        rebuild: false,
        release: false,
        write: false,
    };
    let mut counts = Counts::default();
    let mut good = true;
    for report in reports(&args)? {
        counts.add(report.counts());
        good &= report.is_good();
    }
    Ok((counts, good))
}

fn reports(args: &Args) -> Result<Vec<Report>> {
    root::require("vm-test", "it makes a root file system")?;
    let chosen = choose(&args.kernel)?;
    setup::install(PACKAGES)?;
    let start = Instant::now();
    let dir = build::target_dir().join("vm");
    let workplace = Workplace::new(&dir)?;
    let payload = payload(args, &workplace.run)?;
    image::ensure(&dir, args.rebuild)?;
    println!(
        "vm-test: ready to boot after {} s",
        start.elapsed().as_secs()
    );
    let mut reports = Vec::new();
    for kernel in chosen {
        let report = machine::run(&dir, &workplace.run, kernel, &payload)?;
        println!("{}", report.text());
        reports.push(report);
    }
    println!("vm-test: {} s in all", start.elapsed().as_secs());
    Ok(reports)
}

fn choose(name: &str) -> Result<Vec<&'static Kernel>> {
    let chosen: Vec<_> = KERNELS
        .iter()
        .filter(|kernel| name == "all" || kernel.name == name)
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no kernel \"{name}\": all, {}", names.join(", "));
    }
    Ok(chosen)
}

/// The directory for one run's files, for this process alone, empty at first and removed
/// at the end; what a killed run has left goes when the next one starts.
struct Workplace {
    run: PathBuf,
    _lock: Flock<File>,
}

impl Workplace {
    fn new(vm: &Path) -> Result<Self> {
        let lock = subdirectory(vm, "")?;
        let lock = File::open(&lock).with_context(|| format!("open {}", lock.display()))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .context("another vm-test is running in this target directory")?;
        let run = vm.join("run");
        let _ = fs::remove_dir_all(&run);
        fs::create_dir(&run).with_context(|| format!("mkdir {}", run.display()))?;
        Ok(Self { run, _lock: lock })
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.run) {
            eprintln!("vm-test: rmdir {}: {error}", self.run.display());
        }
    }
}

/// Everything that goes into the machine, in one directory.
fn payload(args: &Args, run: &Path) -> Result<PathBuf> {
    let binaries = build::daemon(args.release)?;
    let dir = subdirectory(run, "payload")?;
    let into = |name: &str| dir.join(name);
    let source = workspace();
    fs::create_dir_all(into("bin")).context("mkdir bin")?;
    for binary in [&binaries.daemon, &binaries.client] {
        let name = binary.file_name().context("binary's name")?;
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(into("bin").join(name)).arg(binary);
        check(&mut strip, 60)?;
    }
    copy(&source.join("tests/vm/guest"), &into("guest"))?;
    copy(&source.join("daemon/dist"), &into("dist"))?;
    copy(&source.join("policies/library"), &into("policies"))?;
    for (from, to) in [
        ("vagrant/provision.sh", "provision.sh"),
        ("tests/fixtures/shop.sql", "guest/shop.sql"),
        ("tests/fixtures/escape.py", "guest/escape.py"),
    ] {
        let from = source.join(from);
        fs::copy(&from, into(to)).with_context(|| format!("copy {}", from.display()))?;
    }
    if let Some(only) = &args.only {
        fs::write(into("only"), only).context("write only")?;
    }
    Ok(dir)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    check(Command::new("cp").arg("-a").arg(from).arg(to), 60).map(drop)
}

/// Runs a command; an error with what it printed if it fails or takes longer.
fn check(command: &mut Command, seconds: u64) -> Result<String> {
    process::check(command, "", Duration::from_secs(seconds))
}

/// Runs a command line of `sh -eu`, with its words as `$1`, `$2`, ...
fn sh(script: &str, words: &[&Path], seconds: u64) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-euc", script, "sh"]).args(words);
    check(&mut command, seconds)
}

/// A path of `dir`, made if it is not there.
fn subdirectory(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::create_dir_all(&path).with_context(|| format!("mkdir {}", path.display()))?;
    Ok(path)
}
