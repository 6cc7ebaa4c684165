//! What the packet hooks read of a packet, and their verdict on it.
//!
//! Pure, so that it is tested without a kernel. Anything but a plain IPv4 header (RFC 791,
//! no options, no fragment) or an IPv6 header (RFC 8200) with the transport header right
//! behind it gives [`Ends::UNREADABLE`], which no socket was ever turned to.

use crate::{Addr, Turned, mapped};

/// Words of an IPv4 header and the ports behind it.
pub const WORDS4: usize = 6;
/// Words of an IPv6 header and the ports behind it.
pub const WORDS6: usize = 11;

/// Index of the loopback device, the same in every network namespace.
pub const LOOPBACK: u32 = 1;

/// More-fragments flag and fragment offset.
const FRAGMENT: u32 = 0x3fff;

/// Both ends of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Protocol number; 0 where the packet is not readable.
    pub protocol: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Ends {
    /// Of a packet that can't be judged.
    pub const UNREADABLE: Self = Self {
        src: [0; 4],
        dst: [0; 4],
        protocol: 0,
        src_port: 0,
        dst_port: 0,
    };
}

/// Reads an IPv4 packet.
#[inline(always)]
pub const fn ends4(words: &[u32; WORDS4]) -> Ends {
    let first = u32::from_be(words[0]);
    let fragment = u32::from_be(words[1]) & FRAGMENT;
    let mut ends = Ends {
        src: mapped(words[3]),
        dst: mapped(words[4]),
        protocol: (u32::from_be(words[2]) >> 16) & 0xff,
        src_port: (u32::from_be(words[5]) >> 16) as u16,
        dst_port: u32::from_be(words[5]) as u16,
    };
    // Version 4, five words of header.
    if first >> 24 != 0x45 || fragment != 0 {
        ends.protocol = 0;
    }
    ends
}

/// Reads an IPv6 packet. An extension header shows as a protocol of its own.
#[inline(always)]
pub const fn ends6(words: &[u32; WORDS6]) -> Ends {
    let mut ends = Ends {
        src: [words[2], words[3], words[4], words[5]],
        dst: [words[6], words[7], words[8], words[9]],
        protocol: (u32::from_be(words[1]) >> 8) & 0xff,
        src_port: (u32::from_be(words[10]) >> 16) as u16,
        dst_port: u32::from_be(words[10]) as u16,
    };
    if u32::from_be(words[0]) >> 28 != 6 {
        ends.protocol = 0;
    }
    ends
}

/// May the packet leave by this device? Only to where its socket was turned.
#[inline(always)]
pub const fn may_leave(ends: &Ends, device: u32, turned: &Turned) -> bool {
    device == LOOPBACK
        && ends.protocol == turned.protocol
        && ends.dst_port == turned.gate_port
        && same(&ends.dst, &turned.gate)
}

/// May the packet come in by this device? Only from where its socket was turned.
#[inline(always)]
pub const fn may_enter(ends: &Ends, device: u32, turned: &Turned) -> bool {
    device == LOOPBACK
        && ends.protocol == turned.protocol
        && ends.src_port == turned.gate_port
        && same(&ends.src, &turned.gate)
}

/// `==` of arrays is a call, which the programs don't have.
#[inline(always)]
const fn same(a: &Addr, b: &Addr) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IPPROTO_TCP, IPPROTO_UDP};

    const GATE: u32 = u32::from_be_bytes([127, 0, 0, 1]).to_be();

    fn turned() -> Turned {
        Turned {
            asked: mapped(u32::from_be_bytes([192, 0, 2, 1]).to_be()),
            gate: mapped(GATE),
            asked_port: 5432,
            gate_port: 600,
            protocol: IPPROTO_TCP,
        }
    }

    fn to_gate() -> [u32; WORDS4] {
        let ports = (40_000 << 16) | 600_u32;
        [0x4500_0028, 0x0001_4000, 0x4006_0000, 0, 0, ports]
            .map(u32::to_be)
            .with(3, GATE)
            .with(4, GATE)
    }

    trait With {
        fn with(self, index: usize, word: u32) -> Self;
    }

    impl<const N: usize> With for [u32; N] {
        fn with(mut self, index: usize, word: u32) -> Self {
            self[index] = word;
            self
        }
    }

    #[test]
    fn only_to_the_gate_and_by_the_loopback() {
        let ends = ends4(&to_gate());
        assert!(may_leave(&ends, LOOPBACK, &turned()));
        assert!(!may_leave(&ends, 2, &turned()), "another device");
        assert!(!may_enter(&ends, LOOPBACK, &turned()), "the wrong end");
        let elsewhere = ends4(&to_gate().with(4, 0x0101_0101));
        assert!(!may_leave(&elsewhere, LOOPBACK, &turned()));
        let port = ends4(&to_gate().with(5, 601_u32.to_be()));
        assert!(!may_leave(&port, LOOPBACK, &turned()));
        let udp = Turned {
            protocol: IPPROTO_UDP,
            ..turned()
        };
        assert!(!may_leave(&ends, LOOPBACK, &udp));
    }

    #[test]
    fn only_from_the_gate() {
        let back = ends4(&to_gate().with(5, ((600 << 16) | 40_000_u32).to_be()));
        assert!(may_enter(&back, LOOPBACK, &turned()));
        assert!(!may_enter(&back, 2, &turned()));
        let other = ends4(&to_gate().with(3, 0x0101_0101));
        assert!(!may_enter(&other, LOOPBACK, &turned()));
    }

    #[test]
    fn options_and_fragments_are_unreadable() {
        let options = to_gate().with(0, 0x4600_002c_u32.to_be());
        let more_fragments = to_gate().with(1, 0x0001_2000_u32.to_be());
        let last_fragment = to_gate().with(1, 0x0001_0010_u32.to_be());
        for words in [options, more_fragments, last_fragment] {
            assert!(
                !may_leave(&ends4(&words), LOOPBACK, &turned()),
                "{words:x?}"
            );
        }
    }

    #[test]
    fn an_extension_header_is_not_tcp() {
        let gate = [0, 0, 0, 1_u32.to_be()];
        let turned = Turned { gate, ..turned() };
        let words = |next: u32| {
            let mut words = [0; WORDS6];
            words[0] = 0x6000_0000_u32.to_be();
            words[1] = ((20 << 16) | (next << 8) | 64_u32).to_be();
            words[9] = gate[3];
            words[10] = 600_u32.to_be();
            words
        };
        let routing = 43;
        assert!(may_leave(&ends6(&words(IPPROTO_TCP)), LOOPBACK, &turned));
        assert!(!may_leave(&ends6(&words(routing)), LOOPBACK, &turned));
        let version4 = words(IPPROTO_TCP).with(0, 0x4000_0000_u32.to_be());
        assert!(!may_leave(&ends6(&version4), LOOPBACK, &turned));
    }

    #[test]
    fn nothing_is_turned_to_the_unreadable() {
        assert!(!may_leave(&Ends::UNREADABLE, LOOPBACK, &turned()));
        assert!(!may_enter(&Ends::UNREADABLE, LOOPBACK, &turned()));
    }
}
