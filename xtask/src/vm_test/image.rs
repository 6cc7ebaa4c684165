//! The root file system: Debian 12 with systemd and the modules of every kernel.
//!
//! `target/vm/root.img` is never changed by a run (qemu writes to a snapshot). It is built
//! anew when what it is made from has changed, which the stamp beside it says.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use portcullis_tests::paths::workspace;

use super::kernels::{KERNELS, Kernel};
use super::{check, sh, subdirectory};

/// What a test in the machine may use.
const INCLUDE: &str = "systemd,systemd-sysv,dbus,udev,iproute2,procps,kmod,libpam-systemd,\
    bpftool,python3,postgresql-15,postgresql-client-15,util-linux,at,cron,gdb-minimal";

/// Units that cost time and do nothing for the tests.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "postgresql.service",
    "systemd-pstore.service",
    "systemd-timesyncd.service",
];

/// Builds the image unless it is there and up to date.
pub fn ensure(vm: &Path, rebuild: bool) -> Result<()> {
    fs::create_dir_all(vm).with_context(|| format!("mkdir {}", vm.display()))?;
    let stamp = vm.join("stamp");
    let wanted = recipe(&workspace().join("tests/vm/rootfs"))?;
    if !rebuild && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let _ = fs::remove_file(&stamp);
    let mirror = mirror()?;
    println!("vm-test: building the disk image from {mirror}");
    std::thread::scope(|scope| {
        let root = scope.spawn(|| debootstrap(vm, &mirror));
        let fetched = KERNELS
            .iter()
            .try_for_each(|kernel| kernel.fetch(vm, &mirror));
        root.join().expect("the thread does not panic")?;
        fetched
    })?;
    furnish(vm)?;
    pack(vm)?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))
}

/// A text that changes when the image must be built anew.
fn recipe(overlay: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    (INCLUDE, MASKED, format!("{KERNELS:?}")).hash(&mut hasher);
    let listing = sh(
        r#"cd "$1"; find . -type f | sort | xargs sha256sum"#,
        &[overlay],
        10,
    )?;
    listing.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// The archive that this machine's own apt uses.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]);
    let sites = check(&mut command, 30)?;
    let main = sites
        .lines()
        .find(|line| line.trim_end_matches('/').ends_with("/debian"));
    Ok(main.unwrap_or("http://deb.debian.org/debian").to_owned())
}

fn debootstrap(vm: &Path, mirror: &str) -> Result<()> {
    let root = vm.join("root");
    let _ = fs::remove_dir_all(&root);
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={INCLUDE}"))
        .arg("bookworm")
        .arg(&root)
        .arg(mirror);
    check(&mut command, 600).map(drop)
}

/// Puts in what Debian's packages do not.
fn furnish(vm: &Path) -> Result<()> {
    let root = vm.join("root");
    let modules = subdirectory(&root, "usr/lib/modules")?;
    for kernel in KERNELS {
        let from = kernel.directory(vm).join("x/lib/modules");
        sh(r#"cp -a "$1"/* "$2""#, &[&from, &modules], 60)?;
    }
    let overlay = workspace().join("tests/vm/rootfs");
    sh(r#"cp -r "$1"/. "$2""#, &[&overlay, &root], 60)?;
    let units = subdirectory(&root, "etc/systemd/system")?;
    for unit in MASKED {
        let _ = symlink("/dev/null", units.join(unit));
    }
    let wants = subdirectory(&units, "multi-user.target.wants")?;
    let _ = symlink("../vm-payload.service", wants.join("vm-payload.service"));
    let script = r#"
        cd "$1"
        chmod +x usr/local/sbin/vm-payload
        rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/* usr/share/doc usr/share/man usr/share/locale
        chroot . useradd -m -s /bin/sh agent
        chroot . useradd -m -s /bin/sh stranger
    "#;
    sh(script, &[&root], 60).map(drop)
}

fn pack(vm: &Path) -> Result<()> {
    let script = r#"
        cd "$1"
        rm -f root.img
        truncate -s 4G root.img
        mkfs.ext4 -q -F -O ^has_journal -d root root.img
        rm -rf root
    "#;
    sh(script, &[vm], 120)?;
    let versions: Result<Vec<String>> = KERNELS.iter().map(|k: &Kernel| k.version(vm)).collect();
    println!("vm-test: the image has kernels {}", versions?.join(", "));
    Ok(())
}
