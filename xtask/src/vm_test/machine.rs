//! One virtual machine: boot, payload in, results out, gone.
//!
//! The payload goes in as a tar archive on a disk, the results come back as one on another;
//! the machine's log is a serial port that is our standard output. qemu dies with us even
//! when we are killed, and a time limit ends a machine that hangs.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use portcullis_tests::process::{Process, tail};

use super::kernels::Kernel;
use super::report::Report;
use super::{check, sh};

/// Longer than any run should take, even on cores that others use as well.
const LIMIT: Duration = Duration::from_secs(900);
const OUT_BYTES: u64 = 64 << 20;

/// Boots the kernel, runs the payload, and reads what came back. Temporary files go to
/// `run`.
pub fn run(vm: &Path, run: &Path, kernel: &'static Kernel, payload: &Path) -> Result<Report> {
    let (input, output) = (run.join("in.tar"), run.join("out.tar"));
    let version = kernel.version(vm)?;
    println!("\n=== Linux {version} ===");
    fs::write(
        payload.join("fit"),
        if kernel.is_fit { "yes" } else { "no" },
    )
    .context("write fit")?;
    let mut tar = Command::new("tar");
    tar.arg("cf").arg(&input).arg("-C").arg(payload).arg(".");
    check(&mut tar, 60)?;
    let blocks = fs::metadata(&input)
        .context("stat")?
        .len()
        .next_multiple_of(1 << 20);
    let file = File::options().write(true).open(&input).context("open")?;
    file.set_len(blocks).context("ftruncate")?;
    let file = File::create(&output).context("create")?;
    file.set_len(OUT_BYTES).context("ftruncate")?;

    let start = Instant::now();
    let console = run.join("console");
    let ended = boot(vm, kernel, &input, &output, &console);
    let results = vm.join("results").join(kernel.name);
    let _ = fs::remove_dir_all(&results);
    fs::create_dir_all(&results).context("mkdir results")?;
    let _ = fs::copy(&console, results.join("console"));
    ended.with_context(|| format!("the console's end:\n{}", tail(&console, 30)))?;
    sh(r#"tar xf "$1" -C "$2""#, &[&output, &results], 30).with_context(|| {
        format!(
            "no results came back; the console's end:\n{}",
            tail(&console, 30)
        )
    })?;
    Report::read(kernel, version, &results, start.elapsed())
}

fn boot(vm: &Path, kernel: &Kernel, input: &Path, output: &Path, console: &Path) -> Result<()> {
    let dir = kernel.directory(vm);
    let disk = |path: &Path, options: &str| {
        format!("file={},if=virtio,format=raw,{options}", path.display())
    };
    // setpriv: the kernel ends qemu when we die, however we die.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args([
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            kernel.cpu,
        ])
        .args(["-smp", "2", "-m", "1536", "-nodefaults", "-nic", "none"])
        .args([
            "-no-reboot",
            "-display",
            "none",
            "-device",
            "virtio-rng-pci",
        ])
        .arg("-kernel")
        .arg(dir.join("vmlinuz"))
        .arg("-initrd")
        .arg(dir.join("initrd"))
        .args(["-append", APPEND, "-drive"])
        .arg(disk(&vm.join("root.img"), "snapshot=on,cache=unsafe"))
        .arg("-drive")
        .arg(disk(input, "readonly=on"))
        .arg("-drive")
        .arg(disk(output, "cache=unsafe"))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args([
            "-chardev",
            "stdio,id=log,signal=off",
            "-serial",
            "chardev:log",
        ])
        .stdin(Stdio::null());
    let mut process = Process::spawn(&mut qemu, Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    Ok(())
}

const APPEND: &str = "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off \
    systemd.show_status=no net.ifnames=0 vm.payload";
