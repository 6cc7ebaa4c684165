//! From an accepted connection to what its agent asked for.
//!
//! The agent's end of the connection leads to the socket's cookie, the cookie to the
//! origin. Both entries are removed when read: an origin serves one accept.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use portcullis_ebpf_common as common;
use portcullis_ebpf_common::{Addr, TupleKey, words};

use super::maps::Maps;
use super::{CaptureError, NetnsCookie};
use crate::types::{CgroupId, OrigDst, PeerAddr};

/// What a connection to the gate asked for, and who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where it wanted to go.
    pub dst: OrigDst,
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

impl From<common::Origin> for Origin {
    fn from(raw: common::Origin) -> Self {
        Self {
            dst: OrigDst::new(SocketAddr::new(
                Ipv6Addr::from(common::bytes(raw.dst)).into(),
                raw.port,
            )),
            cgroup: CgroupId(raw.cgroup),
            session: CgroupId(raw.session),
            pid: raw.pid,
            uid: raw.uid,
            comm: text(&raw.comm),
        }
    }
}

/// Takes the origin of a connection out of the maps. None for a connection that did not
/// come through the gate's programs, or has ended, or was taken before: refuse it.
pub(super) fn take(
    maps: &Maps,
    peer: PeerAddr,
    netns: NetnsCookie,
) -> Result<Option<Origin>, CaptureError> {
    let key = TupleKey {
        addr: addr(peer.0.ip()),
        netns: netns.0,
        port: peer.0.port(),
        pad: [0; 3],
    };
    let Some(cookie) = maps.tuples.pop(&key)? else {
        return Ok(None);
    };
    Ok(maps.origins.pop(&cookie)?.map(Origin::from))
}

/// An address as the maps hold it: IPv4 as IPv4-mapped.
pub(super) fn addr(ip: IpAddr) -> Addr {
    let v6 = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    words(v6.octets())
}

/// A kernel string: up to the first zero byte, what is not UTF-8 replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_origin_is_given_as_ipv4() {
        let raw = common::Origin {
            dst: addr("192.0.2.1".parse().expect("literal")),
            cgroup: 2,
            session: 1,
            netns: 0,
            pid: 3,
            uid: 4,
            port: 5432,
            family: 10,
            tied: 1,
            comm: *b"psql\0junk\0\0\0\0\0\0\0",
        };
        let origin = Origin::from(raw);
        assert_eq!(origin.dst.addr().to_string(), "192.0.2.1:5432");
        assert_eq!(origin.comm, "psql");
    }
}
