//! Carries a view out: a private mount namespace in which only the view is left.
//!
//! Every path is opened once, without following symbolic links, and that descriptor is
//! what is copied and mounted over, so that nobody can swap a path in between. Needs
//! CAP_SYS_ADMIN and Linux 5.12.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::LaunchError;
use super::view::View;
use crate::sys;

const NO_SET_ID: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Leaves the caller's mount and IPC namespaces for good, then applies the view.
pub(super) fn apply(view: &View) -> Result<(), LaunchError> {
    let cwd = std::env::current_dir().map_err(LaunchError::call("getcwd"))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)
        .map_err(LaunchError::errno("unshare"))?;
    let root = open(Path::new("/"))?;
    set(&root, Path::new("/"), true, 0)?;
    let writable: Vec<_> = view
        .writable
        .iter()
        .filter_map(|path| grant(path).transpose())
        .collect::<Result<_, _>>()?;
    let (nodes, run) = (device_nodes()?, shown(&view.run)?);
    set(
        &root,
        Path::new("/"),
        true,
        NO_SET_ID | libc::MOUNT_ATTR_RDONLY,
    )?;
    for grant in writable {
        put(&grant.copy, &grant.over, grant.path)?;
    }
    make_dev(&nodes)?;
    make_run(&run)?;
    let nothing = nodes.iter().find(|node| node.name == Path::new("null"));
    for path in &view.hidden {
        hide(path, nothing.map(|node| &node.copy))?;
    }
    std::env::set_current_dir(&cwd).map_err(LaunchError::path("chdir", cwd))
}

/// A directory that stays as it was.
struct Grant<'a> {
    path: &'a Path,
    over: OwnedFd,
    copy: OwnedFd,
}

fn grant(path: &Path) -> Result<Option<Grant<'_>>, LaunchError> {
    let Some(over) = open_if_there(path)? else {
        return Ok(None);
    };
    let copy = copy(&over, path, true)?;
    set(&copy, path, true, NO_SET_ID)?;
    Ok(Some(Grant { path, over, copy }))
}

/// A file to be shown in a directory that is made anew.
struct Shown {
    /// Relative to that directory.
    name: PathBuf,
    copy: OwnedFd,
}

fn device_nodes() -> Result<Vec<Shown>, LaunchError> {
    let mut nodes = Vec::new();
    for name in NODES {
        let path = Path::new("/dev").join(name);
        if let Some(file) = open_if_there(&path)? {
            let (name, copy) = (name.into(), copy(&file, &path, false)?);
            nodes.push(Shown { name, copy });
        }
    }
    // The caller's terminal is not in the new /dev/pts; this is where ttyname(3) finds it.
    if let Some(terminal) = terminal() {
        let file = open(&terminal)?;
        let (name, copy) = ("console".into(), copy(&file, &terminal, false)?);
        nodes.push(Shown { name, copy });
    }
    Ok(nodes)
}

fn terminal() -> Option<PathBuf> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    [input.as_fd(), output.as_fd(), error.as_fd()]
        .into_iter()
        .find_map(|fd| nix::unistd::ttyname(fd).ok())
}

fn shown(files: &[PathBuf]) -> Result<Vec<Shown>, LaunchError> {
    let mut all = Vec::new();
    for path in files {
        let (Some(file), Ok(name)) = (open_if_there(path)?, path.strip_prefix("/run")) else {
            continue;
        };
        let (name, copy) = (name.into(), copy(&file, path, false)?);
        all.push(Shown { name, copy });
    }
    Ok(all)
}

fn make_dev(nodes: &[Shown]) -> Result<(), LaunchError> {
    let dev = Path::new("/dev");
    empty(
        dev,
        "size=64k,mode=755",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
    )?;
    put_all(dev, nodes)?;
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).map_err(LaunchError::path("symlink", dev.join(name)))?;
    }
    for (name, kind, options) in [
        ("pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
        ("shm", "tmpfs", "mode=1777"),
    ] {
        let path = dev.join(name);
        fs::create_dir(&path).map_err(LaunchError::path("mkdir", &path))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some(kind), &path, Some(kind), flags, Some(options))
            .map_err(|errno| LaunchError::path("mount", &path)(errno.into()))?;
    }
    set(&open(dev)?, dev, false, libc::MOUNT_ATTR_RDONLY)
}

fn make_run(files: &[Shown]) -> Result<(), LaunchError> {
    let run = Path::new("/run");
    if !run.is_dir() {
        return Ok(());
    }
    empty(
        run,
        "size=64k,mode=755",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
    )?;
    put_all(run, files)?;
    set(&open(run)?, run, false, libc::MOUNT_ATTR_RDONLY)
}

fn put_all(directory: &Path, files: &[Shown]) -> Result<(), LaunchError> {
    for file in files {
        let path = directory.join(&file.name);
        let parent = path.parent().unwrap_or(directory);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder
            .create(parent)
            .map_err(LaunchError::path("mkdir", parent))?;
        File::create(&path).map_err(LaunchError::path("create", &path))?;
        put(&file.copy, &open(&path)?, &path)?;
    }
    Ok(())
}

/// Replaces a directory by an empty one and anything else by the null device.
fn hide(path: &Path, nothing: Option<&OwnedFd>) -> Result<(), LaunchError> {
    let Some(file) = open_if_there(path)? else {
        return Ok(());
    };
    let is_dir = path.symlink_metadata().is_ok_and(|data| data.is_dir());
    if is_dir {
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        return empty(path, "size=4k,nr_inodes=2,mode=555", flags);
    }
    let nothing = nothing
        .ok_or_else(|| LaunchError::path("open", "/dev/null")(io::ErrorKind::NotFound.into()))?;
    let copy = copy(nothing, path, false)?;
    put(&copy, &file, path)
}

fn empty(path: &Path, options: &str, flags: MsFlags) -> Result<(), LaunchError> {
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
        .map_err(|errno| LaunchError::path("mount tmpfs on", path)(errno.into()))
}

fn open(path: &Path) -> Result<OwnedFd, LaunchError> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(nix::fcntl::AT_FDCWD, path, how)
        .map_err(|errno| LaunchError::path("open", path)(errno.into()))
}

fn open_if_there(path: &Path) -> Result<Option<OwnedFd>, LaunchError> {
    match open(path) {
        Err(LaunchError::Path { source, .. })
            if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&source.kind()) =>
        {
            Ok(None)
        }
        result => result.map(Some),
    }
}

fn copy(file: &OwnedFd, path: &Path, deep: bool) -> Result<OwnedFd, LaunchError> {
    sys::clone_mount(file.as_fd(), deep).map_err(LaunchError::path("open_tree", path))
}

fn put(copy: &OwnedFd, over: &OwnedFd, path: &Path) -> Result<(), LaunchError> {
    sys::put_mount(copy.as_fd(), over.as_fd()).map_err(LaunchError::path("move_mount", path))
}

fn set(file: &OwnedFd, path: &Path, deep: bool, attributes: u64) -> Result<(), LaunchError> {
    sys::set_mount(file.as_fd(), deep, attributes).map_err(LaunchError::path("mount_setattr", path))
}
