//! The maps as the daemon uses them: sessions, listeners, destinations.
//!
//! Each is behind a lock of its own, held for one system call or one pass over the map.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Pod;
use aya::maps::{Map, MapData, MapError};
use portcullis_ebpf_common::dns::Asker;
use portcullis_ebpf_common::lsm::HiddenKey;
use portcullis_ebpf_common::{DestKey, LISTENER_V6, Listener, Origin, Session, TupleKey, words};

use super::unix::UnixAllowed;
use super::{CaptureError, ListenerConfig, orig_dst};
use crate::types::CgroupId;

/// A hash map of the kernel, shared by the daemon's tasks.
pub(super) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: Mutex<aya::maps::HashMap<MapData, K, V>>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    fn take(object: &mut aya::Ebpf, name: &'static str) -> Result<Self, CaptureError> {
        let map: Map = object.take_map(name).ok_or(CaptureError::Missing(name))?;
        let map = aya::maps::HashMap::try_from(map).map_err(CaptureError::map(name))?;
        Ok(Self {
            name,
            map: Mutex::new(map),
        })
    }

    fn lock(&self) -> MutexGuard<'_, aya::maps::HashMap<MapData, K, V>> {
        // The map is the kernel's; a panic of ours can't leave it half written.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keys(&self) -> Result<Vec<K>, CaptureError> {
        let map = self.lock();
        map.keys()
            .collect::<Result<_, _>>()
            .map_err(CaptureError::map(self.name))
    }

    pub(super) fn insert(&self, key: K, value: V) -> Result<(), CaptureError> {
        let mut map = self.lock();
        map.insert(key, value, 0)
            .map_err(CaptureError::map(self.name))
    }

    /// Removes an entry; one that is not there is no error.
    pub(super) fn remove(&self, key: &K) -> Result<(), CaptureError> {
        match self.lock().remove(key) {
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(CaptureError::map(self.name)),
        }
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, CaptureError> {
        match self.lock().get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(CaptureError::map(self.name)(error)),
        }
    }

    /// Reads and removes an entry. Two callers can't both have it.
    pub(super) fn pop(&self, key: &K) -> Result<Option<V>, CaptureError> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        let mut map = self.lock();
        match map.remove(key) {
            Ok(()) => Ok(Some(value)),
            // Its connection ended between the two calls.
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(CaptureError::map(self.name)(error)),
        }
    }
}

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(nix::libc::ENOENT),
        _ => false,
    }
}

/// The maps that the daemon reads or writes, without the ring buffer.
pub(super) struct Maps {
    pub(super) sessions: Table<u64, Session>,
    pub(super) listeners: Table<u64, Listener>,
    destinations: Table<DestKey, u32>,
    pub(super) origins: Table<u64, Origin>,
    pub(super) tuples: Table<TupleKey, u64>,
    pub(super) queries: Table<TupleKey, Asker>,
    pub(super) unix: UnixAllowed,
    pub(super) hidden: Table<HiddenKey, u32>,
}

impl Maps {
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self, CaptureError> {
        Ok(Self {
            sessions: Table::take(object, "SESSIONS")?,
            listeners: Table::take(object, "LISTENERS")?,
            destinations: Table::take(object, "DESTINATIONS")?,
            origins: Table::take(object, "ORIGINS")?,
            tuples: Table::take(object, "TUPLES")?,
            queries: Table::take(object, "QUERIES")?,
            unix: UnixAllowed::new(Table::take(object, "UNIX_ALLOWED")?)?,
            hidden: Table::take(object, "HIDDEN")?,
        })
    }

    pub(super) fn session_ids(&self) -> Result<Vec<CgroupId>, CaptureError> {
        Ok(self.sessions.keys()?.into_iter().map(CgroupId).collect())
    }

    /// Makes this the only listener. Where it changes, connects are refused for the moment
    /// between two calls.
    pub(super) fn set_listener(&self, config: &ListenerConfig) -> Result<(), CaptureError> {
        let wanted = listener(config);
        for key in self.listeners.keys()? {
            if key != config.netns.0 || self.listeners.get(&key)? != Some(wanted) {
                self.listeners.remove(&key)?;
            }
        }
        self.listeners.insert(config.netns.0, wanted)
    }

    /// Adds the listener of another network namespace, or replaces it.
    pub(super) fn add_listener(&self, config: &ListenerConfig) -> Result<(), CaptureError> {
        self.listeners.insert(config.netns.0, listener(config))
    }

    /// Makes this the set of destinations: adds what is new, then removes what is not in
    /// it, so that a service that stays is there all the time.
    pub(super) fn set_destinations(
        &self,
        wanted: &HashSet<SocketAddr>,
    ) -> Result<(), CaptureError> {
        let wanted: HashSet<DestKey> = wanted.iter().map(|addr| destination(*addr)).collect();
        let present: HashSet<DestKey> = self.destinations.keys()?.into_iter().collect();
        for key in wanted.difference(&present) {
            self.destinations.insert(*key, 1)?;
        }
        for key in present.difference(&wanted) {
            self.destinations.remove(key)?;
        }
        Ok(())
    }
}

fn destination(addr: SocketAddr) -> DestKey {
    DestKey {
        addr: orig_dst::addr(addr.ip()),
        port: addr.port(),
        pad: 0,
    }
}

fn listener(config: &ListenerConfig) -> Listener {
    Listener {
        v4: u32::from_ne_bytes(config.v4.ip().octets()),
        port4: config.v4.port(),
        port6: config.v6.map_or(0, |v6| v6.port()),
        v6: config.v6.map_or([0; 4], |v6| words(v6.ip().octets())),
        flags: if config.v6.is_some() { LISTENER_V6 } else { 0 },
        dns4: config.dns4.unwrap_or(0),
        dns6: config.v6.and(config.dns6).unwrap_or(0),
    }
}
