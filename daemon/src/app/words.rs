//! The kernel's numbers for sockets as words, for the record.

use std::borrow::Cow;

type Word = Cow<'static, str>;

/// Address family (`AF_INET`: `inet`); what has no word stays a number.
pub(super) fn family(number: u32) -> Word {
    let word = match i32::try_from(number).unwrap_or(-1) {
        libc::AF_UNIX => "unix",
        libc::AF_INET => "inet",
        libc::AF_INET6 => "inet6",
        libc::AF_NETLINK => "netlink",
        libc::AF_PACKET => "packet",
        libc::AF_VSOCK => "vsock",
        libc::AF_ALG => "alg",
        libc::AF_XDP => "xdp",
        libc::AF_TIPC => "tipc",
        libc::AF_RDS => "rds",
        libc::AF_BLUETOOTH => "bluetooth",
        libc::AF_CAN => "can",
        libc::AF_KEY => "key",
        libc::AF_PPPOX => "pppox",
        _ => return number.to_string().into(),
    };
    word.into()
}

/// Type of a socket (`SOCK_STREAM`: `stream`).
pub(super) fn kind(number: u32) -> Word {
    let word = match i32::try_from(number).unwrap_or(-1) {
        libc::SOCK_STREAM => "stream",
        libc::SOCK_DGRAM => "dgram",
        libc::SOCK_RAW => "raw",
        libc::SOCK_RDM => "rdm",
        libc::SOCK_SEQPACKET => "seqpacket",
        libc::SOCK_DCCP => "dccp",
        _ => return number.to_string().into(),
    };
    word.into()
}

/// Protocol of an inet socket (`IPPROTO_TCP`: `tcp`); others' protocols stay numbers.
pub(super) fn protocol(family: u32, number: u32) -> Word {
    let inet = [libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned);
    let number_or = |word: &'static str| {
        if inet.contains(&family) {
            Some(word)
        } else {
            None
        }
    };
    let word = match i32::try_from(number).unwrap_or(-1) {
        libc::IPPROTO_ICMP => number_or("icmp"),
        libc::IPPROTO_IGMP => number_or("igmp"),
        libc::IPPROTO_TCP => number_or("tcp"),
        libc::IPPROTO_UDP => number_or("udp"),
        libc::IPPROTO_DCCP => number_or("dccp"),
        libc::IPPROTO_ICMPV6 => number_or("icmpv6"),
        libc::IPPROTO_SCTP => number_or("sctp"),
        libc::IPPROTO_UDPLITE => number_or("udplite"),
        libc::IPPROTO_RAW => number_or("raw"),
        libc::IPPROTO_MPTCP => number_or("mptcp"),
        _ => None,
    };
    word.map_or_else(|| number.to_string().into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_family_are_not_words_of_another() {
        assert_eq!(
            (family(2), kind(3), protocol(2, 255)),
            ("inet".into(), "raw".into(), "raw".into())
        );
        assert_eq!(protocol(10, 58), "icmpv6");
        assert_eq!(protocol(16, 6), "6");
        assert_eq!((family(99), kind(0)), ("99".into(), "0".into()));
    }
}
