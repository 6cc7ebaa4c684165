//! Two addresses of one connection that must never be taken for each other.

use std::fmt;
use std::net::SocketAddr;

/// The address that the agent asked for, before the kernel program rewrote it.
///
/// IPv4-mapped IPv6 is kept as IPv4: `::ffff:192.0.2.1` and `192.0.2.1` are one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrigDst(SocketAddr);

impl OrigDst {
    /// Takes the address, with IPv4-mapped IPv6 folded to IPv4.
    pub fn new(addr: SocketAddr) -> Self {
        Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// The address in its folded form.
    pub fn addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for OrigDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The agent's end of the connection, as `accept(2)` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_and_plain_ipv4_are_one_destination() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5432".parse().expect("literal");
        let plain: SocketAddr = "192.0.2.1:5432".parse().expect("literal");
        assert_eq!(OrigDst::new(mapped), OrigDst::new(plain));
    }
}
