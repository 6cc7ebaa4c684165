//! Which inodes the LSM programs hold against sessions: from paths to the map `HIDDEN`.
//!
//! An inode is the same whatever link or bind mount leads to it. What is below a hidden
//! directory is listed as well, for the sake of hard links elsewhere. The device is the one
//! of /proc/self/mountinfo: stat(2) has another on btrfs. Absent: which paths.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_PATH};
use portcullis_ebpf_common::lsm::{HiddenKey, hidden};

use super::CaptureError;
use super::maps::Table;

/// How far below a hidden directory files are listed one by one, and how many in all; the
/// map has room for as many again, which are named one by one.
const DEEPEST: u32 = 8;
const MOST: usize = 4_096;
/// How often all is looked for again: twice where nothing moves.
const ROUNDS: usize = 8;

/// The gate's and the daemon's own files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFiles {
    /// No session reads or changes them, or what is below them.
    pub hidden: Vec<PathBuf>,
    /// No session changes them.
    pub kept: Vec<PathBuf>,
}

/// Inode and device -> bits.
type Wanted = HashMap<HiddenKey, u32>;

/// Makes the map hold these and nothing else; what stays is there all the time. What can't
/// be looked at keeps the others from nothing.
///
/// Until a path's names are held, a session may move what is on it. So it is gone again
/// after that, until it leads to what is held already.
pub(super) fn set(table: &Table<HiddenKey, u32>, files: &OwnFiles) -> Result<(), CaptureError> {
    let mut held = Wanted::new();
    for _ in 0..ROUNDS {
        let (wanted, found) = Finder::new()?.find(files);
        if wanted == held || found.is_err() {
            return hold(table, &wanted, found);
        }
        // There may be room for more once the old entries are gone.
        let _ = insert(table, &wanted);
        held = wanted;
    }
    let path = files.hidden.first().cloned().unwrap_or_default();
    let problem = "the files on its way, or others of the daemon's, change all the time";
    Err(CaptureError::io("hide", path)(io::Error::other(problem)))
}

/// Makes the map hold what was found, and nothing else if that is all.
fn hold(
    table: &Table<HiddenKey, u32>,
    wanted: &Wanted,
    found: Result<(), CaptureError>,
) -> Result<(), CaptureError> {
    let inserted = insert(table, wanted);
    // What could not be looked at may be among the old entries: then they stay.
    if found.is_ok() {
        let present: HashSet<HiddenKey> = table.keys()?.into_iter().collect();
        for key in present.iter().filter(|key| !wanted.contains_key(key)) {
            table.remove(key)?;
        }
    }
    // The old entries may have been what it had no room for.
    inserted.or_else(|_| insert(table, wanted)).and(found)
}

/// Whether [`settle`] was said of this hidden directory, and it has been hidden ever since.
pub(super) fn is_settled(
    table: &Table<HiddenKey, u32>,
    directory: &Path,
) -> Result<bool, CaptureError> {
    let (_, bits) = of_hidden(table, directory)?;
    Ok(bits & hidden::SETTLED != 0)
}

/// Notes that what is in a hidden directory is nobody else's.
pub(super) fn settle(table: &Table<HiddenKey, u32>, directory: &Path) -> Result<(), CaptureError> {
    let (key, bits) = of_hidden(table, directory)?;
    table.insert(key, bits | hidden::SETTLED)
}

/// The entry of the directory that the path leads to; an error if it is not hidden.
fn of_hidden(
    table: &Table<HiddenKey, u32>,
    directory: &Path,
) -> Result<(HiddenKey, u32), CaptureError> {
    let hide = || CaptureError::io("hide", directory);
    let real = fs::canonicalize(directory).map_err(hide())?;
    let key = Finder::new()?.key(&real).map_err(hide())?;
    match table.get(&key)? {
        Some(bits) if is_hidden(bits) => Ok((key, bits)),
        _ => Err(hide()(io::Error::other(
            "something else has come in its place",
        ))),
    }
}

fn is_hidden(bits: u32) -> bool {
    let all = hidden::READ | hidden::WRITE | hidden::NAME;
    bits & all == all
}

/// As many as there is room for; the first error.
fn insert(table: &Table<HiddenKey, u32>, wanted: &Wanted) -> Result<(), CaptureError> {
    let mut result = Ok(());
    for (key, bits) in wanted {
        let inserted = table.get(key).and_then(|old| {
            let note = note_to_keep(old.unwrap_or_default(), *bits);
            table.insert(*key, bits | note)
        });
        result = result.and(inserted);
    }
    result
}

/// The daemon's own note goes with the hiding.
fn note_to_keep(old: u32, new: u32) -> u32 {
    match is_hidden(old) && is_hidden(new) {
        true => old & hidden::SETTLED,
        false => 0,
    }
}

/// Knows the mounts of this moment.
struct Finder {
    /// Mount id -> device.
    devices: HashMap<u64, u32>,
    wanted: Wanted,
}

impl Finder {
    fn new() -> Result<Self, CaptureError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(CaptureError::io("read", path))?;
        Ok(Self {
            devices: text.lines().filter_map(parse_mount).collect(),
            wanted: Wanted::new(),
        })
    }

    /// All that can be found, and the first error.
    fn find(mut self, files: &OwnFiles) -> (Wanted, Result<(), CaptureError>) {
        let all = hidden::READ | hidden::WRITE | hidden::NAME;
        let kept = hidden::WRITE | hidden::NAME;
        let hidden = files.hidden.iter().map(|path| (path, all));
        let kept = files.kept.iter().map(|path| (path, kept));
        let mut result = Ok(());
        for (path, bits) in hidden.chain(kept) {
            result = result.and(self.add(path, bits));
        }
        (self.wanted, result)
    }

    /// A path, where its links lead, and the names on both ways, which no session may take
    /// away: else it would put others in their place. What is not there needs no hiding.
    fn add(&mut self, path: &Path, bits: u32) -> Result<(), CaptureError> {
        let Some(real) = there(fs::canonicalize(path), path)? else {
            return self.keep_names(path);
        };
        self.keep_names(path)?;
        self.keep_names(&real)?;
        self.add_all(&real, bits, DEEPEST)
    }

    fn keep_names(&mut self, path: &Path) -> Result<(), CaptureError> {
        for name in path.ancestors().filter(|name| *name != Path::new("")) {
            self.add_one(name, hidden::NAME)?;
        }
        Ok(())
    }

    fn add_all(&mut self, path: &Path, bits: u32, depth: u32) -> Result<(), CaptureError> {
        self.add_one(path, bits)?;
        let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        if !is_directory || depth == 0 || self.is_full(path) {
            return Ok(());
        }
        let Some(entries) = there(fs::read_dir(path), path)? else {
            return Ok(());
        };
        let mut result = Ok(());
        for entry in entries {
            if self.is_full(path) {
                break;
            }
            let entry = entry.map_err(CaptureError::io("readdir", path));
            let added = entry.and_then(|entry| self.add_all(&entry.path(), bits, depth - 1));
            result = result.and(added);
        }
        result
    }

    /// The directory is hidden all the same, with what is below it.
    fn is_full(&self, path: &Path) -> bool {
        let is_full = self.wanted.len() >= MOST;
        if is_full {
            let path = path.display();
            tracing::debug!("{path}: too many files to look for hard links to each");
        }
        is_full
    }

    fn add_one(&mut self, path: &Path, bits: u32) -> Result<(), CaptureError> {
        if let Some(key) = there(self.key(path), path)? {
            *self.wanted.entry(key).or_default() |= bits;
        }
        Ok(())
    }

    /// Of the path itself, not of where it leads.
    fn key(&self, path: &Path) -> io::Result<HiddenKey> {
        let file = File::options()
            .read(true)
            .custom_flags(O_PATH | O_NOFOLLOW)
            .open(path)?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let device = mount_id(&info).and_then(|id| self.devices.get(&id));
        Ok(HiddenKey {
            inode: file.metadata()?.ino(),
            device: *device.ok_or_else(|| io::Error::other("on no known mount"))?,
            pad: 0,
        })
    }
}

/// None for what is not there.
fn there<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>, CaptureError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(CaptureError::io("hide", path)(error)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Mount id and device of a line of proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<(u64, u32)> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some((id, major << 20 | minor))
}

/// Of proc_pid_fdinfo(5).
fn mount_id(info: &str) -> Option<u64> {
    let mut lines = info.lines();
    let id = lines.find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(hidden: &[&Path]) -> (Finder, Wanted) {
        let files = OwnFiles {
            hidden: hidden.iter().map(|path| (*path).into()).collect(),
            kept: vec![],
        };
        let finder = || Finder::new().expect("mounts");
        let (wanted, result) = finder().find(&files);
        result.expect("all of it can be looked at");
        (finder(), wanted)
    }

    #[test]
    fn what_is_below_a_directory_is_hidden_and_what_is_above_keeps_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (top, below) = (dir.path().join("own"), dir.path().join("own/a/b"));
        fs::create_dir_all(&below).expect("mkdir");
        fs::write(below.join("secret"), "x").expect("write");
        fs::hard_link(below.join("secret"), dir.path().join("link")).expect("link");
        let (finder, wanted) = found(&[&top]);
        let bits = |path: &Path| wanted.get(&finder.key(path).expect("key")).copied();
        assert_eq!(bits(&top), Some(7));
        assert_eq!(bits(&below.join("secret")), Some(7));
        assert_eq!(bits(&dir.path().join("link")), Some(7));
        assert_eq!(bits(dir.path()), Some(hidden::NAME));
        assert_eq!(bits(Path::new("/")), Some(hidden::NAME));
    }

    #[test]
    fn the_note_goes_with_the_hiding() {
        let all = hidden::READ | hidden::WRITE | hidden::NAME;
        assert_eq!(note_to_keep(all | hidden::SETTLED, all), hidden::SETTLED);
        assert_eq!(note_to_keep(all, all), 0);
        for less in [hidden::NAME, hidden::WRITE | hidden::NAME, 0] {
            assert_eq!(note_to_keep(all | hidden::SETTLED, less), 0, "{less}");
            assert_eq!(note_to_keep(less | hidden::SETTLED, all), 0, "{less}");
        }
    }

    #[test]
    fn a_link_and_where_it_leads_are_both_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("real")).expect("mkdir");
        fs::write(path("real/secret"), "x").expect("write");
        symlink(path("real"), path("way")).expect("symlink");
        let (finder, wanted) = found(&[&path("way/secret"), &path("absent/file")]);
        let bits = |path: &Path| wanted.get(&finder.key(path).expect("key")).copied();
        assert_eq!(bits(&path("real/secret")), Some(7));
        assert_eq!(bits(&path("way")), Some(hidden::NAME));
        assert_eq!(bits(&path("real")), Some(hidden::NAME));
    }

    #[test]
    fn what_cannot_be_looked_at_keeps_the_others_from_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        symlink(path("loop"), path("loop")).expect("symlink");
        fs::write(path("secret"), "x").expect("write");
        let files = OwnFiles {
            hidden: vec![path("loop"), path("secret")],
            kept: vec![],
        };
        let finder = || Finder::new().expect("mounts");
        let (wanted, result) = finder().find(&files);
        let error = result.expect_err("a loop").to_string();
        assert!(error.contains("loop"), "{error}");
        let key = finder().key(&path("secret")).expect("key");
        assert_eq!(wanted.get(&key), Some(&7));
    }

    #[test]
    fn a_crowded_directory_is_hidden_as_one_and_leaves_room_for_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("crowd")).expect("mkdir");
        for number in 0..=MOST {
            fs::write(path("crowd").join(number.to_string()), "").expect("write");
        }
        fs::write(path("secret"), "x").expect("write");
        let (finder, wanted) = found(&[&path("crowd"), &path("secret")]);
        let bits = |path: &Path| wanted.get(&finder.key(path).expect("key")).copied();
        assert_eq!(bits(&path("crowd")), Some(7));
        assert_eq!(bits(&path("secret")), Some(7));
        assert!(wanted.len() < MOST + 16, "{}", wanted.len());
    }

    #[test]
    fn lines_of_proc() {
        let line = "36 35 98:257 / /mnt rw,noatime master:1 - ext4 /dev/root rw";
        assert_eq!(parse_mount(line), Some((36, 98 << 20 | 257)));
        assert_eq!(parse_mount("36 35"), None);
        assert_eq!(mount_id("pos:\t0\nflags:\t0\nmnt_id:\t29\n"), Some(29));
    }
}
