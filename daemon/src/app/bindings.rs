//! Cgroups of others that the policy binds: units, slices, containers.
//!
//! Seen by the kernel's notice of each new directory below the enforced cgroup, and by a
//! look at all of them at the start and whenever the policy changes. Until one is bound
//! nothing passes from it, so being late costs a refused connect() and nothing else.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::sessions::Sessions;

/// Watches the tree of cgroups below the enforced one.
pub(super) struct Tree {
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, PathBuf>,
    sessions: Arc<Sessions>,
}

impl Tree {
    /// Sees every new cgroup from here on, and binds those that are there.
    ///
    /// # Errors
    /// inotify is not to be had.
    pub(super) fn new(sessions: &Arc<Sessions>, enforced: &Path) -> io::Result<Self> {
        let mut tree = Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC)?,
            directories: HashMap::new(),
            sessions: Arc::clone(sessions),
        };
        tree.add(enforced)?;
        tree.look_below(enforced);
        Ok(tree)
    }

    /// Follows the tree for as long as the process lives; it blocks.
    pub(super) fn follow(mut self, enforced: &Path) {
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.seen(event.wd, event.mask, event.name, enforced);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!("new cgroups are not seen any more: inotify: {error}");
                    return;
                }
            }
        }
    }

    fn seen(
        &mut self,
        watch: WatchDescriptor,
        mask: AddWatchFlags,
        name: Option<OsString>,
        enforced: &Path,
    ) {
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return self.look_below(enforced);
        }
        if mask.contains(AddWatchFlags::IN_IGNORED) {
            self.directories.remove(&watch);
            return;
        }
        if let (Some(directory), Some(name)) = (self.directories.get(&watch), name)
            && mask.contains(AddWatchFlags::IN_ISDIR)
        {
            let path = directory.join(name);
            self.look(&path);
        }
    }

    /// Watched first, then listed: what is made in between is seen at least once.
    fn look(&mut self, path: &Path) {
        if let Err(error) = self.add(path) {
            // Gone again already.
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!("{}: inotify: {error}", path.display());
            }
            return;
        }
        self.sessions.bind(path);
        self.look_below(path);
    }

    fn look_below(&mut self, path: &Path) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.look(&entry.path());
            }
        }
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
        let watch = self.inotify.add_watch(path, flags)?;
        self.directories.insert(watch, path.to_owned());
        Ok(())
    }
}

/// Whose it is to start things there: the owner of the directory.
pub(super) fn owner(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.uid())
}
