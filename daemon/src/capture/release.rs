//! Takes the gate down: for uninstalling, and for pins of another version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::loader::Pins;
use super::{CaptureError, GateConfig, attach, cgroupfs, host};

/// Detaches every program and unpins everything; then removes the enforced cgroup if
/// nothing lives in it. From here on its processes connect as if there were no gate.
///
/// # Errors
/// Not root, a daemon is running, or a pin can't be removed. No gate at all is no error.
pub fn release(config: &GateConfig) -> Result<(), CaptureError> {
    let cgroup2 = host::preflight()?;
    let pins = Pins::new(&config.bpffs, &config.pins);
    if host::is_bpffs(&config.bpffs)? && pins.root().exists() {
        let _lock = host::lock(pins.root())?;
        for link in entries(&pins.links())? {
            attach::detach(&link)?;
        }
        for directory in [pins.links(), pins.lsm(), pins.programs(), pins.maps()] {
            remove_pins(&directory)?;
        }
        fs::remove_dir(pins.root()).map_err(CaptureError::io("rmdir", pins.root()))?;
    }
    let enforced = cgroup2.join(&config.cgroup);
    match cgroupfs::remove(&enforced) {
        Ok(()) => Ok(()),
        Err(error) if is_left(&error) => Ok(()),
        Err(error) => Err(CaptureError::io("rmdir", enforced)(error)),
    }
}

/// Whether processes live in the enforced cgroup: after a release nothing would hold them.
///
/// # Errors
/// The cgroup can't be looked at. One that is not there has no processes.
pub fn is_inhabited(config: &GateConfig) -> Result<bool, CaptureError> {
    let enforced = host::preflight()?.join(&config.cgroup);
    match cgroupfs::is_populated(&enforced) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map_err(CaptureError::io("read cgroup.events of", enforced)),
    }
}

/// Errors of a cgroup that is not there, or has processes and so must stay.
fn is_left(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy
    )
}

fn remove_pins(directory: &Path) -> Result<(), CaptureError> {
    if !directory.exists() {
        return Ok(());
    }
    for path in entries(directory)? {
        fs::remove_file(&path).map_err(CaptureError::io("unlink", &path))?;
    }
    fs::remove_dir(directory).map_err(CaptureError::io("rmdir", directory))
}

/// What is in a directory; nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    let failed = CaptureError::io("readdir", directory);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(failed)
}
