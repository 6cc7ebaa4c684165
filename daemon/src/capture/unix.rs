//! Unix addresses that sessions may use.
//!
//! The kernel compares bytes: a path must be given as the process gives it, so only
//! absolute ones are taken. What is at the path is not looked at here.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use portcullis_ebpf_common::{UNIX_PATH, UnixKey};
use thiserror::Error;

use super::CaptureError;
use super::maps::Table;
use crate::types::CgroupId;

/// Longest `sun_path` (unix(7)).
const LONGEST: usize = 108;

/// Why something is no unix address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnixAddressError {
    /// A path that does not start at the root.
    #[error("not an absolute path")]
    Relative,
    /// More than the 108 bytes of `sun_path`, the zero of an abstract name included.
    #[error("longer than 108 bytes")]
    TooLong,
    /// A path with a zero byte in it, which ends it for the kernel.
    #[error("a zero byte in the path")]
    Zero,
    /// An abstract name of no bytes: that is an address without a name.
    #[error("an empty name")]
    Empty,
}

/// An address of a unix socket: a path or an abstract name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnixAddress {
    path: [u8; UNIX_PATH],
    /// Zero for a path.
    abstract_len: u32,
}

impl std::fmt::Debug for UnixAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnixAddress({self})")
    }
}

/// As `ss` and `/proc/net/unix` show it: `@` before an abstract name.
impl std::fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = usize::try_from(self.abstract_len).unwrap_or(0);
        let name = match length {
            0 => self.path.split(|byte| *byte == 0).next(),
            length => self.path.get(1..length),
        };
        let sign = if length == 0 { "" } else { "@" };
        write!(f, "{sign}{}", name.unwrap_or_default().escape_ascii())
    }
}

impl UnixAddress {
    /// A socket in the file system.
    ///
    /// # Errors
    /// The path is relative, too long, or has a zero byte in it.
    pub fn path(path: &Path) -> Result<Self, UnixAddressError> {
        let bytes = path.as_os_str().as_bytes();
        if !path.is_absolute() {
            return Err(UnixAddressError::Relative);
        }
        if bytes.contains(&0) {
            return Err(UnixAddressError::Zero);
        }
        Ok(Self {
            path: padded(b"", bytes)?,
            abstract_len: 0,
        })
    }

    /// An abstract name, without its leading zero byte (`@` where people write it).
    ///
    /// # Errors
    /// The name is empty or too long.
    pub fn abstract_name(name: &[u8]) -> Result<Self, UnixAddressError> {
        if name.is_empty() {
            return Err(UnixAddressError::Empty);
        }
        let path = padded(b"\0", name)?;
        let length = name.len() + 1;
        Ok(Self {
            path,
            abstract_len: u32::try_from(length).map_err(|_| UnixAddressError::TooLong)?,
        })
    }

    /// What a kernel program reported; none where it reported no address.
    pub(super) fn reported(path: [u8; UNIX_PATH]) -> Option<Self> {
        let end = path.iter().rposition(|byte| *byte != 0)? + 1;
        let abstract_len = if path.first() == Some(&0) { end } else { 0 };
        Some(Self {
            path,
            abstract_len: u32::try_from(abstract_len).ok()?,
        })
    }

    fn key(&self, session: CgroupId) -> UnixKey {
        UnixKey {
            session: session.0,
            abstract_len: self.abstract_len,
            pad: 0,
            path: self.path,
        }
    }
}

fn padded(prefix: &[u8], bytes: &[u8]) -> Result<[u8; UNIX_PATH], UnixAddressError> {
    let mut path = [0; UNIX_PATH];
    let all = prefix.iter().chain(bytes);
    if prefix.len() + bytes.len() > LONGEST {
        return Err(UnixAddressError::TooLong);
    }
    for (to, from) in path.iter_mut().zip(all) {
        *to = *from;
    }
    Ok(path)
}

/// The kernel's list, and what is known to be on it, so that a session's part is found
/// without a pass over all.
pub(super) struct UnixAllowed {
    table: Table<UnixKey, u32>,
    known: Mutex<HashMap<u64, HashSet<UnixKey>>>,
}

impl UnixAllowed {
    /// Starts from what a pinned map holds.
    pub(super) fn new(table: Table<UnixKey, u32>) -> Result<Self, CaptureError> {
        let mut known: HashMap<u64, HashSet<UnixKey>> = HashMap::new();
        for key in table.keys()? {
            known.entry(key.session).or_default().insert(key);
        }
        Ok(Self {
            table,
            known: Mutex::new(known),
        })
    }

    /// Makes this the session's part: removes what is not in it, then adds what is new.
    pub(super) fn set(
        &self,
        session: CgroupId,
        wanted: &[UnixAddress],
    ) -> Result<(), CaptureError> {
        let wanted: HashSet<UnixKey> = wanted.iter().map(|addr| addr.key(session)).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let present = known.remove(&session.0).unwrap_or_default();
        let mut now = present.clone();
        let result = self.change(&mut now, &present, &wanted);
        if !now.is_empty() {
            known.insert(session.0, now);
        }
        result
    }

    fn change(
        &self,
        now: &mut HashSet<UnixKey>,
        present: &HashSet<UnixKey>,
        wanted: &HashSet<UnixKey>,
    ) -> Result<(), CaptureError> {
        for key in present.difference(wanted) {
            self.table.remove(key)?;
            now.remove(key);
        }
        for key in wanted.difference(present) {
            self.table.insert(*key, 1)?;
            now.insert(*key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_the_kernel_takes() {
        let path = |text: &str| UnixAddress::path(Path::new(text));
        assert_eq!(path("run/x"), Err(UnixAddressError::Relative));
        assert_eq!(path("/run/a\0b"), Err(UnixAddressError::Zero));
        let longest = format!("/{}", "x".repeat(107));
        assert!(path(&longest).is_ok());
        assert_eq!(path(&format!("{longest}x")), Err(UnixAddressError::TooLong));
        assert!(UnixAddress::abstract_name(&[b'x'; 107]).is_ok());
        let name = UnixAddress::abstract_name(&[b'x'; 108]);
        assert_eq!(name, Err(UnixAddressError::TooLong));
        let empty = UnixAddress::abstract_name(b"");
        assert_eq!(empty, Err(UnixAddressError::Empty));
    }

    #[test]
    fn a_zero_at_the_end_makes_another_abstract_name() {
        let name = |bytes| UnixAddress::abstract_name(bytes).expect("a name");
        assert_ne!(name(b"bus"), name(b"bus\0"));
        assert_eq!(name(b"bus").to_string(), "@bus");
        assert_eq!(name(b"bus\0").to_string(), "@bus\\x00");
    }

    #[test]
    fn a_reported_address_reads_as_it_was_given() {
        let path = UnixAddress::path(Path::new("/run/docker.sock")).expect("a path");
        assert_eq!(UnixAddress::reported(path.path), Some(path));
        assert_eq!(path.to_string(), "/run/docker.sock");
        let name = UnixAddress::abstract_name(b"x").expect("a name");
        assert_eq!(UnixAddress::reported(name.path), Some(name));
        assert_eq!(UnixAddress::reported([0; UNIX_PATH]), None);
    }
}
