//! Takes the gate down: for uninstalling, and for pins of another version.

use std::fs;
use std::io;
use std::path::Path;

use super::loader::Pins;
use super::{CaptureError, GateConfig, cgroupfs, host};

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
        // Links first: while one of them is there, so are its maps.
        for directory in [pins.links(), pins.programs(), pins.maps()] {
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
    let entries = fs::read_dir(directory).map_err(CaptureError::io("readdir", directory))?;
    for entry in entries {
        let path = entry
            .map_err(CaptureError::io("readdir", directory))?
            .path();
        fs::remove_file(&path).map_err(CaptureError::io("unlink", &path))?;
    }
    fs::remove_dir(directory).map_err(CaptureError::io("rmdir", directory))
}
