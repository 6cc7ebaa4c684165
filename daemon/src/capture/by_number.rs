//! Programs whose attach type aya does not know, loaded by the number of that type.
//!
//! The object is read a second time, its references to maps are filled in from the pins,
//! and the kernel is asked directly. Where it says no, the kernel has no such hook, which
//! is an answer and not a failure.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use aya::maps::MapData;
use aya_obj::Object;

use super::CaptureError;
use super::attach::Hook;
use super::loader::{until_whole, was_interrupted};
use crate::sys;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const CGROUP_SOCK_ADDR: u32 = 18;

/// The object, ready to be loaded from.
pub(super) struct ByNumber {
    object: Object,
    /// The instructions refer to these by number: open for as long as they are.
    _maps: Vec<MapData>,
}

impl ByNumber {
    pub(super) fn new<const N: usize>(
        bytes: &[u8],
        maps: [&'static str; N],
        pins: &Path,
    ) -> Result<Self, CaptureError> {
        let broken = |_| CaptureError::Missing("unix hooks");
        let mut object =
            Object::parse(bytes).map_err(|_| CaptureError::Missing("object format"))?;
        let mut open = Vec::new();
        for name in maps {
            let map = MapData::from_pin(pins.join(name)).map_err(CaptureError::map(name))?;
            open.push((name, map));
        }
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let described = object.maps.clone();
        let known = open.iter().filter_map(|(name, map)| {
            let described = described.get(*name)?;
            Some((*name, map.fd().as_fd().as_raw_fd(), described))
        });
        object.relocate_maps(known, &text).map_err(broken)?;
        object.relocate_calls(&text).map_err(broken)?;
        Ok(Self {
            object,
            _maps: open.into_iter().map(|(_, map)| map).collect(),
        })
    }

    /// The program, or the kernel's answer why it takes none there.
    ///
    /// # Errors
    /// The object has no such program.
    pub(super) fn load(&self, hook: Hook) -> Result<io::Result<OwnedFd>, CaptureError> {
        let missing = || CaptureError::Missing(hook.name);
        let program = self.object.programs.get(hook.name).ok_or_else(missing)?;
        let function = self.object.functions.get(&program.function_key());
        let instructions = &function.ok_or_else(missing)?.instructions;
        let license = CString::new("Dual MIT/GPL").map_err(|_| missing())?;
        let load = |log: &mut [u8]| {
            let number = hook.attach_type;
            sys::bpf_load(CGROUP_SOCK_ADDR, number, instructions, &license, log)
        };
        let result = until_whole(|| Some(load(&mut [])), was_interrupted).ok_or_else(missing)?;
        Ok(result.inspect_err(|_| {
            let mut log = vec![0; 1 << 20];
            let _ = load(&mut log);
            let verifier_log = String::from_utf8_lossy(&log);
            let verifier_log = verifier_log.trim_end_matches('\0');
            tracing::debug!(
                hook = hook.name,
                verifier_log,
                "program refused by the kernel"
            );
        }))
    }
}
