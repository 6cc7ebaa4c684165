//! From a datagram at the gate's resolver to who sent it.
//!
//! An asker is filed by egress before its packet arrives and stays until its socket is
//! closed, so a query of a closed socket has none. Absent: names, answers.

use std::net::{Ipv6Addr, SocketAddr};

use portcullis_ebpf_common as common;
use portcullis_ebpf_common::TupleKey;
use portcullis_ebpf_common::dns::DNS_PORT;

use super::maps::Maps;
use super::orig_dst::{addr, text};
use super::{CaptureError, NetnsCookie};
use crate::types::{CgroupId, OrigDst, PeerAddr};

/// Who sent a query by UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The resolver that it asked.
    pub resolver: OrigDst,
    /// Cgroup of the process (the leaf).
    pub cgroup: CgroupId,
    /// Cgroup of its agent session.
    pub session: CgroupId,
    /// Its process (thread group) id, in the first pid namespace.
    pub pid: u32,
    /// Its user id, in the first user namespace.
    pub uid: u32,
    /// Its name, as the process chose it: for the record only.
    pub comm: String,
}

/// Where queries came from; the resolver knows the gate only as this.
pub trait AskerSource: Send + Sync {
    /// Who sent the query from `peer`, received in `netns`. None: drop it.
    ///
    /// # Errors
    /// The maps can't be read.
    fn asker(&self, peer: PeerAddr, netns: NetnsCookie) -> Result<Option<Asker>, CaptureError>;
}

impl From<common::dns::Asker> for Asker {
    fn from(raw: common::dns::Asker) -> Self {
        let resolver = Ipv6Addr::from(common::bytes(raw.asked));
        Self {
            resolver: OrigDst::new(SocketAddr::new(resolver.into(), DNS_PORT)),
            cgroup: CgroupId(raw.cgroup),
            session: CgroupId(raw.session),
            pid: raw.pid,
            uid: raw.uid,
            comm: text(&raw.comm),
        }
    }
}

/// Looks the asker up.
pub(super) fn asker(
    maps: &Maps,
    peer: PeerAddr,
    netns: NetnsCookie,
) -> Result<Option<Asker>, CaptureError> {
    let key = TupleKey {
        addr: addr(peer.0.ip()),
        netns: netns.0,
        port: peer.0.port(),
        pad: [0; 3],
    };
    Ok(maps.queries.get(&key)?.map(Asker::from))
}
