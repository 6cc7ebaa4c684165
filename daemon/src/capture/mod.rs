//! The gate in the kernel: programs on the enforced cgroup turn every TCP connect() of
//! an agent session to the gate's listener and refuse everything else.
//!
//! [`Gate::start`] returns only when the kernel lists every program as attached. Programs,
//! maps and links are pinned: dropping the [`Gate`], or killing the daemon, leaves the
//! gate shut, and the next start adopts it with its sessions. [`release`] takes it down.
//! The only user of aya. Absent on purpose: who a session belongs to, what it may do.

mod attach;
mod by_number;
pub mod cgroupfs;
mod dns;
mod error;
mod events;
mod hidden;
mod host;
mod loader;
mod lsm;
mod maps;
mod netns;
mod orig_dst;
mod processes;
mod release;
mod unix;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use portcullis_ebpf_common::{SESSION_ENDED, Session};

pub use attach::{Layer, Layers, MissingLayer};
pub use dns::{Asker, AskerSource};
pub use error::CaptureError;
pub use events::{Events, GateRefused, Reason};
pub use hidden::OwnFiles;
pub use lsm::LsmState;
pub use netns::{Netns, NetnsCookie, NetnsId};
pub use orig_dst::Origin;
pub use processes::Execs;
pub use release::{is_inhabited, release};
pub use unix::{UnixAddress, UnixAddressError};

use crate::types::{CgroupId, PeerAddr, SessionId};
use attach::Enforced;
use loader::Pins;
use lsm::Launching;
use maps::Maps;

/// Where the gate is put up.
#[derive(Debug, Clone)]
pub struct GateConfig {
    /// The enforced cgroup, relative to the cgroup2 mount: `portcullis`.
    pub cgroup: String,
    /// Mount point of the bpf file system; mounted if it isn't: `/sys/fs/bpf`.
    pub bpffs: PathBuf,
    /// Directory for the pins, relative to it: `portcullis`.
    pub pins: String,
    /// Where redirected connections of its own network namespace go.
    pub listener: ListenerConfig,
    /// How many connections may wait for the gate's accept at once. Pins that are
    /// adopted keep the number that they were made with.
    pub connections: u32,
}

/// The gate's listener and the network namespace that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerConfig {
    /// IPv4, and IPv4-mapped IPv6.
    pub v4: SocketAddrV4,
    /// IPv6; without it IPv6 connects are refused.
    pub v6: Option<SocketAddrV6>,
    /// UDP port of the resolver at the IPv4 address; without it queries are refused.
    pub dns4: Option<u16>,
    /// The same at the IPv6 address.
    pub dns6: Option<u16>,
    /// The namespace; sockets of others are not sent here.
    pub netns: NetnsCookie,
}

/// Where an accepted connection came from; the proxy knows the gate only as this.
pub trait OriginSource: Send + Sync {
    /// What the connection from `peer`, accepted in `netns`, asked for; each is given
    /// once. None: refuse it.
    ///
    /// # Errors
    /// The maps can't be read.
    fn take_origin(
        &self,
        peer: PeerAddr,
        netns: NetnsCookie,
    ) -> Result<Option<Origin>, CaptureError>;
}

impl OriginSource for Gate {
    fn take_origin(
        &self,
        peer: PeerAddr,
        netns: NetnsCookie,
    ) -> Result<Option<Origin>, CaptureError> {
        Self::take_origin(self, peer, netns)
    }
}

impl AskerSource for Gate {
    fn asker(&self, peer: PeerAddr, netns: NetnsCookie) -> Result<Option<Asker>, CaptureError> {
        dns::asker(&self.maps, peer, netns)
    }
}

/// Checks that this host can have a gate at all.
///
/// # Errors
/// Not root, no cgroup2, no BTF; each says what is missing and how to mend it.
pub fn preflight() -> Result<(), CaptureError> {
    host::preflight().map(|_| ())
}

/// A session's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCgroup {
    /// Its directory.
    pub path: PathBuf,
    /// Its id.
    pub id: CgroupId,
}

/// How [`Gate::start`] found the pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// There were none, or none that were complete.
    Fresh,
    /// Made by this very object.
    Same,
    /// Made by another object with the same map layout; its programs were replaced.
    Upgraded,
}

/// The gate, in force.
pub struct Gate {
    enforced: Enforced,
    pins: Pins,
    maps: Maps,
    adopted: Adopted,
    missing: Vec<MissingLayer>,
    lsm: LsmState,
    launching: Launching,
    _lock: Flock<File>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("enforced", &self.enforced.path)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Puts the gate up, or takes over the one that is pinned, and checks with the kernel
    /// that it is in force. Sessions and destinations of pinned maps are kept.
    ///
    /// # Errors
    /// The host lacks something, another daemon holds the gate, the pins are of another
    /// version, or the kernel refused a step. What was attached by then stays attached.
    pub fn start(config: &GateConfig) -> Result<(Self, Events), CaptureError> {
        let cgroup2 = host::preflight()?;
        host::mount_bpffs(&config.bpffs)?;
        let pins = Pins::new(&config.bpffs, &config.pins);
        for directory in [pins.maps(), pins.programs(), pins.links()] {
            host::make_dir(&directory)?;
        }
        let lock = host::lock(pins.root())?;
        let enforced = open_enforced(cgroup2.join(&config.cgroup))?;
        let mut object = loader::load(&pins, config.connections)?;
        let before = loader::meta(&mut object)?;
        let maps = Maps::take(&mut object)?;
        maps.set_listener(&config.listener)?;
        let (loaded, missing) = loader::load_programs(&mut object, &pins)?;
        attach::attach(&loaded, &pins, &enforced)?;
        let layers = attach::verify(&pins, &enforced, &missing)?;
        attach::verify_loaded(&loaded, &pins, &layers, &enforced)?;
        let lsm = lsm::start(&mut object, &pins, &enforced)?;
        let launching = Launching::take(&mut object)?;
        let adopted = loader::sign(&mut object, before)?;
        let events = Events::take(&mut object)?;
        Ok((
            Self {
                enforced,
                pins,
                maps,
                adopted,
                missing,
                lsm,
                launching,
                _lock: lock,
            },
            events,
        ))
    }

    /// How the pins were found at the start.
    pub fn adopted(&self) -> Adopted {
        self.adopted
    }

    /// The enforced cgroup's directory.
    pub fn enforced(&self) -> &Path {
        &self.enforced.path
    }

    /// Makes the cgroup of a session in another one: the enforced, or that of the session
    /// that it is started from inside of. Nothing more passes from it than from there until
    /// [`Gate::open_session`].
    ///
    /// # Errors
    /// The directory can't be made.
    pub fn create_session_cgroup(
        &self,
        parent: &Path,
        id: &SessionId,
    ) -> Result<SessionCgroup, CaptureError> {
        let path = parent.join(id.as_str());
        cgroupfs::create(&path).map_err(CaptureError::io("mkdir", &path))?;
        let id = cgroupfs::id(&path).map_err(CaptureError::io("stat", &path))?;
        Ok(SessionCgroup { path, id })
    }

    /// From now on connects from this cgroup and those below it go to the gate.
    ///
    /// # Errors
    /// Too many sessions.
    pub fn open_session(&self, id: CgroupId) -> Result<(), CaptureError> {
        self.maps.sessions.insert(id.0, Session { flags: 0 })
    }

    /// From now on connects from this cgroup are refused, even if it lies in that of an open
    /// session. Connections that are up are the proxy's to cut.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn end_session(&self, id: CgroupId) -> Result<(), CaptureError> {
        let flags = SESSION_ENDED;
        self.maps.sessions.insert(id.0, Session { flags })?;
        self.maps.unix.set(id, &[])
    }

    /// Whether the session has ended as far as the kernel knows; it remembers when the
    /// daemon is dead.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn has_ended(&self, id: CgroupId) -> Result<bool, CaptureError> {
        let session = self.maps.sessions.get(&id.0)?;
        Ok(session.is_some_and(|session| session.flags & SESSION_ENDED != 0))
    }

    /// The cgroup is gone, or in no session any more.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn forget_session(&self, id: CgroupId) -> Result<(), CaptureError> {
        self.maps.sessions.remove(&id.0)?;
        self.maps.unix.set(id, &[])
    }

    /// Makes this the set of unix addresses that the processes of a session may connect
    /// or send to; a new session has none. Gone with the session.
    ///
    /// # Errors
    /// Too many of them, over all sessions.
    pub fn set_unix_allowed(
        &self,
        session: CgroupId,
        wanted: &[UnixAddress],
    ) -> Result<(), CaptureError> {
        self.maps.unix.set(session, wanted)
    }

    /// From now on connects from the listener's network namespace go to it.
    ///
    /// # Errors
    /// Too many namespaces.
    pub fn open_listener(&self, config: &ListenerConfig) -> Result<(), CaptureError> {
        self.maps.add_listener(config)
    }

    /// From now on connects from this network namespace are refused.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn close_listener(&self, netns: NetnsCookie) -> Result<(), CaptureError> {
        self.maps.listeners.remove(&netns.0)
    }

    /// The network namespaces that have a listener.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn listeners(&self) -> Result<Vec<NetnsCookie>, CaptureError> {
        Ok(self
            .maps
            .listeners
            .keys()?
            .into_iter()
            .map(NetnsCookie)
            .collect())
    }

    /// The sessions that are open in the kernel, adopted ones too.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn sessions(&self) -> Result<Vec<CgroupId>, CaptureError> {
        self.maps.session_ids()
    }

    /// Makes this the set of addresses that an agent may ask for at all; the policy
    /// decides on the rest.
    ///
    /// # Errors
    /// Too many of them.
    pub fn set_destinations(&self, wanted: &HashSet<SocketAddr>) -> Result<(), CaptureError> {
        self.maps.set_destinations(wanted)
    }

    /// What the connection from `peer`, just accepted in `netns`, asked for; each is given
    /// once. None: refuse the connection.
    ///
    /// A connection that has already ended frees its address for the next: ask
    /// [`crate::sys::tcp_is_closed`] afterwards, and refuse it if so.
    ///
    /// # Errors
    /// The maps can't be read.
    pub fn take_origin(
        &self,
        peer: PeerAddr,
        netns: NetnsCookie,
    ) -> Result<Option<Origin>, CaptureError> {
        orig_dst::take(&self.maps, peer, netns)
    }

    /// How many connections wait to be taken.
    ///
    /// # Errors
    /// The maps can't be read.
    pub fn waiting(&self) -> Result<usize, CaptureError> {
        let (origins, tuples) = (self.maps.origins.keys()?, self.maps.tuples.keys()?);
        Ok(origins.len().max(tuples.len()))
    }

    /// What is in force, asked from the kernel at this moment.
    ///
    /// # Errors
    /// A program is not attached: the gate is not whole.
    pub fn layers(&self) -> Result<Vec<Layer>, CaptureError> {
        let mut layers = attach::verify(&self.pins, &self.enforced, &self.missing)?;
        if let LsmState::InForce(found) = &self.lsm {
            layers.extend(lsm::layers(
                &self.pins,
                found.iter().map(|layer| layer.hook),
            )?);
        }
        Ok(layers)
    }

    /// Whether the BPF LSM programs are in force, found at the start.
    pub fn lsm(&self) -> &LsmState {
        &self.lsm
    }

    /// Makes these the files that no session reads or changes, whoever started it. Without
    /// the LSM programs nothing asks for them.
    ///
    /// # Errors
    /// One of them can't be looked at, or they are too many.
    pub fn set_own_files(&self, files: &OwnFiles) -> Result<(), CaptureError> {
        match self.lsm {
            LsmState::InForce(_) => hidden::set(&self.maps.hidden, files),
            LsmState::Unavailable(_) => Ok(()),
        }
    }

    /// Whether [`Self::settle`] was said of this directory, by an earlier daemon perhaps, and
    /// no session has reached it since. Without the LSM programs nothing is hidden, and
    /// nothing is asked for: true.
    ///
    /// # Errors
    /// It can't be looked at, or is not hidden now.
    pub fn is_settled(&self, directory: &Path) -> Result<bool, CaptureError> {
        match self.lsm {
            LsmState::InForce(_) => hidden::is_settled(&self.maps.hidden, directory),
            LsmState::Unavailable(_) => Ok(true),
        }
    }

    /// Notes of a hidden directory that what is in it is nobody else's. The note goes with
    /// the hiding.
    ///
    /// # Errors
    /// It can't be looked at, is not hidden now, or the map can't be written.
    pub fn settle(&self, directory: &Path) -> Result<(), CaptureError> {
        match self.lsm {
            LsmState::InForce(_) => hidden::settle(&self.maps.hidden, directory),
            LsmState::Unavailable(_) => Ok(()),
        }
    }

    /// Says that a process is about to be in this session's cgroup. There, until it executes
    /// a command, and for seconds only, one from outside of every session does what a
    /// launcher must; one that comes from the session `outer` reads the answer and no more.
    /// Without the LSM programs nothing asks for this.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn expect_launcher(
        &self,
        pid: u32,
        session: CgroupId,
        outer: Option<CgroupId>,
    ) -> Result<(), CaptureError> {
        self.launching.expect(pid, session, outer)
    }

    /// Takes that back: its session did not begin.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn forget_launcher(&self, pid: u32) -> Result<(), CaptureError> {
        self.launching.forget(pid)
    }

    /// The hooks that this kernel does not have, found at the start.
    pub fn missing_layers(&self) -> &[MissingLayer] {
        &self.missing
    }

    /// Both.
    ///
    /// # Errors
    /// As for [`Gate::layers`].
    pub fn all_layers(&self) -> Result<Layers, CaptureError> {
        Ok(Layers {
            in_force: self.layers()?,
            missing: self.missing.clone(),
        })
    }
}

fn open_enforced(path: PathBuf) -> Result<Enforced, CaptureError> {
    cgroupfs::create(&path).map_err(CaptureError::io("mkdir", &path))?;
    let directory = File::open(&path).map_err(CaptureError::io("open", &path))?;
    Ok(Enforced { path, directory })
}
