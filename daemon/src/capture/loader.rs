//! From the embedded object to loaded programs on pinned maps.
//!
//! Maps that are pinned already are adopted with what they hold. Invariant: nothing is
//! loaded on maps of another layout. Attaching is the next step, in `attach`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData, MapInfo};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use portcullis_ebpf_common::dns::Asker;
use portcullis_ebpf_common::lsm::{HiddenKey, Launch, LsmConfig};
use portcullis_ebpf_common::{
    ABI, DestKey, GateEvent, Listener, Meta, Origin, Session, TupleKey, Turned, UnixKey,
};

use super::attach::{HOOKS, Hook, Loaded, MissingLayer, OPTIONAL};
use super::by_number::ByNumber;
use super::{Adopted, CaptureError};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portcullis-ebpf.o"));

const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Every map with its key and value size.
const MAPS: [(&str, u32, u32); 15] = [
    ("META", size::<u32>(), size::<Meta>()),
    ("SESSIONS", size::<u64>(), size::<Session>()),
    ("LISTENERS", size::<u64>(), size::<Listener>()),
    ("DESTINATIONS", size::<DestKey>(), size::<u32>()),
    ("ORIGINS", size::<u64>(), size::<Origin>()),
    ("TUPLES", size::<TupleKey>(), size::<u64>()),
    ("TURNED", size::<u32>(), size::<Turned>()),
    ("ASKERS", size::<u32>(), size::<Asker>()),
    ("QUERIES", size::<TupleKey>(), size::<Asker>()),
    ("UNIX_ALLOWED", size::<UnixKey>(), size::<u32>()),
    ("EVENTS", 0, 0),
    ("LOST", size::<u32>(), size::<u64>()),
    ("LSM_CONFIG", size::<u32>(), size::<LsmConfig>()),
    ("LAUNCHING", size::<u32>(), size::<Launch>()),
    ("HIDDEN", size::<HiddenKey>(), size::<u32>()),
];
// An event must fit its ring buffer many times; a page is the smallest.
const _: () = assert!(size_of::<GateEvent>() < 512);

/// Where each kind of object is pinned.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(super) fn new(bpffs: &Path, name: &str) -> Self {
        Self {
            root: bpffs.join(name),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    pub(super) fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// Links of the LSM programs, which end when their pin does.
    pub(super) fn lsm(&self) -> PathBuf {
        self.root.join("lsm")
    }

    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }
}

/// Loads the object on the pinned maps (made where missing).
pub(super) fn load(pins: &Pins, connections: u32) -> Result<Ebpf, CaptureError> {
    check_layouts(&pins.maps())?;
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("ORIGINS", connections)
        .map_max_entries("TUPLES", connections);
    for (name, ..) in MAPS {
        loader.map_pin_path(name, pins.maps().join(name));
    }
    let mut object = loader
        .load(OBJECT)
        .map_err(|error| CaptureError::Object(Box::new(error)))?;
    check_abi(pins, meta(&mut object)?)?;
    Ok(object)
}

/// Loads the programs, and says which of them this kernel has no place for.
pub(super) fn load_programs(
    object: &mut Ebpf,
    pins: &Pins,
) -> Result<(Vec<Loaded>, Vec<MissingLayer>), CaptureError> {
    let mut loaded = Vec::new();
    for hook in HOOKS {
        let program = load_program(object, *hook)?;
        loaded.push(Loaded {
            hook: *hook,
            program,
        });
    }
    let mut missing = Vec::new();
    let by_number = ByNumber::new(OBJECT, MAPS.map(|(name, ..)| name), &pins.maps())?;
    for (hook, leaves_open) in OPTIONAL {
        match by_number.load(*hook)? {
            Ok(program) => loaded.push(Loaded {
                hook: *hook,
                program,
            }),
            Err(error) => missing.push(MissingLayer {
                name: hook.name,
                why: format!("the kernel refused it (BPF_PROG_LOAD): {error}"),
                leaves_open,
            }),
        }
    }
    Ok((loaded, missing))
}

fn load_program(object: &mut Ebpf, hook: Hook) -> Result<OwnedFd, CaptureError> {
    let failed = CaptureError::program(hook.name);
    let missing = CaptureError::Missing(hook.name);
    let Some(program) = object.program_mut(hook.name) else {
        return Err(missing);
    };
    let interrupted = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => was_interrupted(io_error),
        _ => false,
    };
    let load = || match program {
        Program::CgroupSkb(program) => Some(program.load()),
        Program::CgroupSock(program) => Some(program.load()),
        Program::CgroupSockAddr(program) => Some(program.load()),
        Program::CgroupSockopt(program) => Some(program.load()),
        Program::SockOps(program) => Some(program.load()),
        _ => None,
    };
    let result = until_whole(load, interrupted).ok_or(missing)?;
    let fd = result.and_then(|()| Ok(program.fd()?.as_fd().try_clone_to_owned()?));
    fd.map_err(failed)
}

/// Whether a load was cut short and may be tried again: a signal interrupts the verifier.
pub(super) fn was_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Tries a load again when it was interrupted, five times in all, as libbpf does.
pub(super) fn until_whole<T, E>(
    mut load: impl FnMut() -> Option<Result<T, E>>,
    interrupted: impl Fn(&E) -> bool,
) -> Option<Result<T, E>> {
    for _ in 1..5 {
        match load() {
            Some(Err(error)) if interrupted(&error) => {}
            result => return result,
        }
    }
    load()
}

fn check_layouts(maps: &Path) -> Result<(), CaptureError> {
    for (name, key, value) in MAPS {
        let path = maps.join(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(CaptureError::map(name))?;
        if (info.key_size(), info.value_size()) != (key, value) {
            let what = format!("map {name} has another layout");
            return Err(CaptureError::OtherVersion {
                path: maps.to_owned(),
                what,
            });
        }
    }
    Ok(())
}

fn check_abi(pins: &Pins, found: Meta) -> Result<(), CaptureError> {
    if found.abi == 0 || found.abi == ABI {
        return Ok(());
    }
    let what = format!("map layout {}, this daemon has {ABI}", found.abi);
    Err(CaptureError::OtherVersion {
        path: pins.root().to_owned(),
        what,
    })
}

/// Which object the pins belong to.
pub(super) fn meta(object: &mut Ebpf) -> Result<Meta, CaptureError> {
    meta_map(object)?
        .get(&0, 0)
        .map_err(CaptureError::map("META"))
}

/// Notes in the pins that they belong to this object now, and says what they were before.
pub(super) fn sign(object: &mut Ebpf, before: Meta) -> Result<Adopted, CaptureError> {
    let mine = Meta {
        abi: ABI,
        pad: 0,
        object: hash(OBJECT),
    };
    meta_map(object)?
        .set(0, mine, 0)
        .map_err(CaptureError::map("META"))?;
    Ok(match before {
        Meta { abi: 0, .. } => Adopted::Fresh,
        same if same == mine => Adopted::Same,
        _ => Adopted::Upgraded,
    })
}

fn meta_map(object: &mut Ebpf) -> Result<Array<&mut MapData, Meta>, CaptureError> {
    let map = object
        .map_mut("META")
        .ok_or(CaptureError::Missing("META"))?;
    Array::try_from(map).map_err(CaptureError::map("META"))
}

/// FNV-1a: tells builds apart, protects nothing.
const fn hash(mut bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while let [byte, rest @ ..] = bytes {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
        bytes = rest;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_load_is_tried_again_but_not_forever() {
        let mut tries = 0;
        let mut load = |good_at| {
            tries = 0;
            until_whole(
                || {
                    tries += 1;
                    Some(if tries == good_at {
                        Ok(tries)
                    } else {
                        Err("interrupted")
                    })
                },
                |error| *error == "interrupted",
            )
        };
        assert_eq!(load(3), Some(Ok(3)));
        assert_eq!(load(9), Some(Err("interrupted")));
        assert_eq!(tries, 5);
    }

    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
