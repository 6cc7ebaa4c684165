//! What of the file system a root-started agent sees: a plan, made without touching it.
//!
//! User id 0 owns root's files even without capabilities, so everything is read-only to
//! it but a few directories, and what leads out of the gate is hidden. The device and
//! run directories are replaced by small ones. `mounts` carries the plan out.

use std::path::{Path, PathBuf};

/// Directories that stay writable wherever the agent was started.
const SCRATCH: [&str; 2] = ["/tmp", "/var/tmp"];

/// Never writable: neither they, nor what is below, nor what they are below of.
const SYSTEM: [&str; 15] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/spool",
    "/var/lib",
];
/// Never writable as a whole, because others' directories are below them.
const SHARED: [&str; 5] = ["/", "/home", "/root", "/var/log", "/var/cache"];

/// Hidden where they are: what a daemon outside executes, or obeys.
const HIDDEN: [&str; 12] = [
    "/etc/portcullis",
    "/sys/fs/cgroup",
    "/sys/fs/bpf",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/var/spool/cron",
    "/var/spool/at",
    "/var/spool/anacron",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/tmp/.X11-unix",
];

/// File systems that are the kernel's controls, wherever they are mounted.
const CONTROLS: [&str; 9] = [
    "cgroup",
    "cgroup2",
    "bpf",
    "debugfs",
    "tracefs",
    "configfs",
    "efivarfs",
    "pstore",
    "binfmt_misc",
];

/// The only files of `/run` that every agent sees: how names are resolved.
pub(super) const RUN_FILES: [&str; 4] = [
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/NetworkManager/resolv.conf",
];

/// What the caller and the daemon bring to a plan. All paths are absolute and without
/// symbolic links.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Where the agent starts, its home, and what was asked for.
    pub(super) writable: Vec<PathBuf>,
    /// The daemon's own: sockets, records, pins, secrets.
    pub(super) hide: Vec<PathBuf>,
    /// Unix sockets that the policy lists for the session.
    pub(super) sockets: Vec<PathBuf>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Writable, parents before children.
    pub(super) writable: Vec<PathBuf>,
    /// Replaced by nothing, parents before children; none below another.
    pub(super) hidden: Vec<PathBuf>,
    /// Shown in the small `/run`.
    pub(super) run: Vec<PathBuf>,
}

/// Makes the plan. `mountinfo` is `/proc/self/mountinfo`; `sockets` are the paths that
/// unix sockets are bound to now.
pub(super) fn plan(mountinfo: &str, sockets: &[PathBuf], wishes: &Wishes) -> View {
    let writable = SCRATCH.iter().map(PathBuf::from);
    let wanted = wishes.writable.iter().filter(|path| may_write(path));
    let writable: Vec<PathBuf> = writable.chain(wanted.cloned()).collect();

    let fixed = HIDDEN.iter().map(PathBuf::from);
    let mounted = control_mounts(mountinfo);
    let mut hidden: Vec<PathBuf> = fixed.chain(mounted).collect();
    hidden.extend(wishes.hide.iter().cloned());
    // Not in the small /dev and /run, which have none of them.
    let replaced = |path: &Path| path.starts_with("/run") || path.starts_with("/dev");
    let listed = |path: &PathBuf| wishes.sockets.contains(path);
    let sockets = sockets.iter().filter(|path| !listed(path));
    hidden.extend(sockets.cloned());
    hidden.retain(|path| !replaced(path) && path.parent().is_some());

    let in_run = wishes
        .sockets
        .iter()
        .filter(|path| path.starts_with("/run"));
    let run = RUN_FILES.iter().map(PathBuf::from).chain(in_run.cloned());
    View {
        writable: outermost(writable),
        hidden: outermost(hidden),
        run: run.collect(),
    }
}

/// Whether a directory may be writable at all.
pub(super) fn may_write(path: &Path) -> bool {
    let system = |base: &&str| path.starts_with(base) || Path::new(base).starts_with(path);
    path.is_absolute()
        && !SYSTEM.iter().any(system)
        && !SHARED.iter().any(|base| path == Path::new(base))
}

/// Sorted, each once, without those below another.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    kept
}

/// Mount points of the kernel's controls (proc_pid_mountinfo(5)).
fn control_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let kind = file_system.split(' ').next()?;
        let point = mount.split(' ').nth(4)?;
        CONTROLS
            .contains(&kind)
            .then(|| PathBuf::from(plain(point)))
    };
    mountinfo.lines().filter_map(point).collect()
}

/// A mount point without mountinfo's octal escapes.
fn plain(point: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let undo = |text: String, (code, plain): &(&str, &str)| text.replace(code, plain);
    escapes.iter().fold(point.to_owned(), undo)
}

/// The paths of `/proc/net/unix` that something listens on (proc_pid_net(5): flags with
/// `SO_ACCEPTCON`, or a datagram socket, which has no such flag).
pub(super) fn bound_sockets(table: &str) -> Vec<PathBuf> {
    const ACCEPTS: u32 = 0x1_0000;
    const DATAGRAM: &str = "0002";
    let path = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let kind = fields.next()?;
        let path = fields.nth(2)?;
        let serves = flags & ACCEPTS != 0 || kind == DATAGRAM;
        (serves && path.starts_with('/')).then(|| PathBuf::from(path))
    };
    table.lines().filter_map(path).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
