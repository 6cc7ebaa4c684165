//! Debian's kernels, fetched by a private apt so that the machine's own is left alone.
//!
//! A kernel is a directory with `vmlinuz`, `initrd`, `version` and its modules in
//! `x/lib/modules`. The initramfs holds busybox and the modules of a virtio disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{check, sh, subdirectory};

/// One that the gate is tested on.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// How `--kernel` names it.
    pub name: &'static str,
    /// What its packages' names start with; of several the newest is taken.
    prefix: &'static str,
    /// The suite that it is looked for in.
    suite: &'static str,
    /// The processor that qemu plays. Without cmpxchg16b 6.12, which dies at boot of the
    /// way in which qemu 7.2 plays it; not so the newest, whose programs then can't
    /// allocate (`kmalloc_nolock`).
    pub cpu: &'static str,
    /// Whether the daemon must work there; else it must refuse to start.
    pub is_fit: bool,
}

/// All of them, the oldest first.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        prefix: "linux-image-5.10.",
        suite: "bullseye",
        cpu: "max,la57=off",
        is_fit: false,
    },
    Kernel {
        name: "6.1",
        prefix: "linux-image-6.1.",
        suite: "bookworm",
        cpu: "max,la57=off",
        is_fit: true,
    },
    Kernel {
        name: "6.12",
        prefix: "linux-image-6.12.",
        suite: "bookworm-backports",
        cpu: "max,la57=off,cx16=off",
        is_fit: true,
    },
    Kernel {
        name: "newest",
        prefix: "linux-image-",
        suite: "trixie-backports",
        cpu: "max,la57=off",
        is_fit: true,
    },
];

/// Small kernels for virtual machines, but with the protocols that the routes need.
const FLAVOUR: &str = "-cloud-amd64";

const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for m in /m/*.ko; do $b insmod $m; done
n=0
while [ ! -b /dev/vda ] && [ $n -lt 200 ]; do $b usleep 20000; n=$((n+1)); done
$b mount -t ext4 -o ro /dev/vda /new
$b umount /proc
$b mount -o move /dev /new/dev
exec $b switch_root /new /lib/systemd/systemd
";

impl Kernel {
    /// Where it is kept.
    pub fn directory(&self, vm: &Path) -> PathBuf {
        vm.join("kernels").join(self.name)
    }

    /// Its full version, `6.1.0-41-cloud-amd64`.
    pub fn version(&self, vm: &Path) -> Result<String> {
        let path = self.directory(vm).join("version");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Fetches it and makes its initramfs, unless the same package is there already.
    pub fn fetch(&self, vm: &Path, mirror: &str) -> Result<()> {
        let apt = Apt::new(vm, mirror, self.suite)?;
        let package = apt.newest(self.prefix)?;
        let dir = self.directory(vm);
        let has = |name: &str| dir.join(name).exists();
        if has("initrd") && package.strip_prefix("linux-image-") == self.version(vm).ok().as_deref()
        {
            return Ok(());
        }
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
        println!("vm-test: fetching {package}");
        apt.download(&package, &dir)?;
        let script = r#"
            cd "$1"
            for deb in ./*.deb; do dpkg-deb -x "$deb" x; rm "$deb"; done
            # Newer packages have it in /usr.
            [ -d x/lib/modules ] || { mkdir -p x/lib && mv x/usr/lib/modules x/lib/; }
            v=$(ls x/lib/modules)
            echo "$v" >version
            cp "x/boot/vmlinuz-$v" vmlinuz 2>/dev/null || cp "x/lib/modules/$v/vmlinuz" vmlinuz
            # busybox's insmod takes plain modules only.
            find x/lib/modules -name '*.ko.xz' -exec xz -d {} +
            find x/lib/modules -name '*.ko.zst' -exec unzstd -q --rm {} +
            rm -rf x/lib/modules/*/kernel/drivers/net/ethernet \
                   x/lib/modules/*/kernel/drivers/gpu x/lib/modules/*/kernel/drivers/infiniband
            depmod -b x "$v"
        "#;
        sh(script, &[&dir], 120)?;
        initramfs(&dir)
    }
}

fn initramfs(dir: &Path) -> Result<()> {
    let tree = subdirectory(dir, "initramfs")?;
    fs::write(tree.join("init"), INIT).context("write init")?;
    let script = r#"
        cd "$1"
        v=$(cat version) i=$PWD/initramfs n=10
        mkdir -p "$i/bin" "$i/proc" "$i/dev" "$i/new" "$i/m"
        cp "$(command -v busybox)" "$i/bin/busybox"
        for want in virtio_pci virtio_blk ext4; do
            modprobe -S "$v" -d x --show-depends "$want" | while read -r kind file _; do
                [ "$kind" = insmod ] || continue
                ls "$i"/m/*-"${file##*/}" >/dev/null 2>&1 && continue
                n=$(($(ls "$i/m" | wc -l) + 10))
                cp "$file" "$i/m/$n-${file##*/}"
            done
        done
        chmod +x "$i/init"
        cd "$i"
        find . | cpio --quiet -o -H newc >../initrd
    "#;
    sh(script, &[dir], 60).map(drop)
}

/// apt with its own sources, lists and cache.
struct Apt {
    config: PathBuf,
}

impl Apt {
    fn new(vm: &Path, mirror: &str, suite: &str) -> Result<Self> {
        let dir = subdirectory(vm, "apt")?;
        let dir = subdirectory(&dir, suite)?;
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            subdirectory(&dir, part)?;
        }
        let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        let mut sources = format!("deb {key} {mirror} {suite} main\n");
        if suite == "bookworm" {
            let security = mirror.trim_end_matches('/').to_owned() + "-security";
            sources += &format!("deb {key} {security} {suite}-security main\n");
        }
        fs::write(dir.join("sources.list"), sources).context("write sources.list")?;
        let at = dir.display();
        let config = format!(
            "Dir::Etc::sourcelist \"{at}/sources.list\";\n\
             Dir::Etc::sourceparts \"{at}/parts\";\n\
             Dir::State::lists \"{at}/lists\";\n\
             Dir::Cache \"{at}/cache\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n"
        );
        let path = dir.join("apt.conf");
        fs::write(&path, config).context("write apt.conf")?;
        let apt = Self { config: path };
        check(apt.command("apt-get").args(["-qq", "update"]), 120)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// The package with the highest version in its name.
    fn newest(&self, prefix: &str) -> Result<String> {
        let names = check(self.command("apt-cache").args(["pkgnames", prefix]), 60)?;
        let newest = names
            .lines()
            .filter_map(|name| Some((version(name.strip_prefix("linux-image-")?)?, name)))
            .max();
        let (_, name) = newest.with_context(|| format!("no package {prefix}*{FLAVOUR}"))?;
        Ok(name.to_owned())
    }

    /// The package; newer ones only name those that hold the kernel and its modules.
    fn download(&self, package: &str, into: &Path) -> Result<()> {
        let depends = check(self.command("apt-cache").args(["depends", package]), 60)?;
        let version = package.trim_start_matches("linux-image-");
        let parts = depends
            .split_whitespace()
            .filter(|word| word.ends_with(version) && !word.contains(['<', '>']));
        let mut command = self.command("apt-get");
        command
            .args(["-qq", "download"])
            .args(parts)
            .current_dir(into);
        check(&mut command, 300).map(drop)
    }
}

/// `6.12.95+deb12-cloud-amd64` as its numbers, if it is of our flavour.
fn version(name: &str) -> Option<Vec<u32>> {
    let numbers = name.strip_suffix(FLAVOUR)?;
    numbers
        .split(['.', '-', '+'])
        .map(|part| part.trim_start_matches("deb").parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_numbers_and_other_flavours_are_left_out() {
        let newer = version("6.12.107+deb13-cloud-amd64").expect("a version");
        assert!(newer > version("6.12.95+deb12-cloud-amd64").expect("a version"));
        assert!(version("6.1.0-56-cloud-amd64") < version("6.1.0-57-cloud-amd64"));
        assert_eq!(version("6.12.95+deb12-cloud-amd64-unsigned"), None);
        assert_eq!(version("6.12.95+deb12-amd64"), None);
        assert_eq!(version("cloud-amd64"), None);
    }
}
