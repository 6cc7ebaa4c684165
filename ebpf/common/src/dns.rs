//! What both sides share about DNS: which sockets are turned to the gate's resolver, and
//! who asks there.

use crate::{Addr, IPPROTO_UDP, SOCK_DGRAM, TupleKey};

/// The port of DNS (RFC 1035, 4.2).
pub const DNS_PORT: u16 = 53;

/// The process that last sent a query by a UDP socket. Kept with the socket, and from its
/// first packet to the socket's end also under the address that the query comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Where its last packet came from; before that port 0.
    pub from: TupleKey,
    /// The resolver that it asked.
    pub asked: Addr,
    /// Cgroup id of the process (the leaf).
    pub cgroup: u64,
    /// Cgroup id of its session.
    pub session: u64,
    /// Process (thread group) id in the first pid namespace.
    pub pid: u32,
    /// User id in the first user namespace.
    pub uid: u32,
    /// Name of the process.
    pub comm: [u8; 16],
}

/// Is this a UDP socket that asks a resolver?
#[inline(always)]
pub const fn is_query(kind: u32, protocol: u32, port: u16) -> bool {
    kind == SOCK_DGRAM && protocol == IPPROTO_UDP && port == DNS_PORT
}

const _: () = assert!(size_of::<Asker>() == 32 + 16 + 16 + 8 + 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IPPROTO_TCP, SOCK_STREAM};

    #[test]
    fn only_udp_to_port_53_is_a_query() {
        assert!(is_query(SOCK_DGRAM, IPPROTO_UDP, 53));
        assert!(!is_query(SOCK_DGRAM, IPPROTO_UDP, 443));
        assert!(!is_query(SOCK_STREAM, IPPROTO_TCP, 53));
        let udplite = 136;
        assert!(!is_query(SOCK_DGRAM, udplite, 53));
    }
}
