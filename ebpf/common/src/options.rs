//! Which socket options a process of a session may set.
//!
//! At the levels of IP and IPv6 a list of what is known to be harmless: the rest can add
//! options or extension headers to packets, choose devices, spoof addresses, or join
//! groups, whose reports leave the host. Elsewhere only the choice of a device is refused.
//! Numbers: `linux/in.h`, `linux/in6.h`, `asm-generic/socket.h`.

const SOL_IP: u32 = 0;
const SOL_SOCKET: u32 = 1;
const SOL_IPV6: u32 = 41;

/// May it set the option?
#[inline(always)]
pub const fn may_set(level: u32, name: u32) -> bool {
    match level {
        SOL_SOCKET => !matches!(name, SO_BINDTODEVICE | SO_BINDTOIFINDEX),
        SOL_IP => name < 64 && IP_ALLOWED & (1 << name) != 0,
        SOL_IPV6 => {
            (name < 64 && IPV6_ALLOWED_LOW & (1 << name) != 0)
                || (name >= 64 && name < 128 && IPV6_ALLOWED_HIGH & (1 << (name - 64)) != 0)
        }
        _ => true,
    }
}

const SO_BINDTODEVICE: u32 = 25;
const SO_BINDTOIFINDEX: u32 = 62;

/// One bit for each option: TOS, TTL, PKTINFO, MTU_DISCOVER, RECVERR, RECVTTL, RECVTOS,
/// MTU, RECVORIGDSTADDR, MINTTL, CHECKSUM, BIND_ADDRESS_NO_PORT, RECVFRAGSIZE,
/// RECVERR_RFC4884, MULTICAST_TTL, MULTICAST_LOOP, LOCAL_PORT_RANGE.
const IP_ALLOWED: u64 = bits(&[
    1, 2, 8, 10, 11, 12, 13, 14, 20, 21, 23, 24, 25, 26, 33, 34, 51,
]);

/// UNICAST_HOPS, MULTICAST_HOPS, MULTICAST_LOOP, MTU_DISCOVER, MTU, RECVERR, V6ONLY,
/// RECVERR_RFC4884, FLOWINFO_SEND, RECVPKTINFO, RECVHOPLIMIT, RECVPATHMTU, DONTFRAG.
const IPV6_ALLOWED_LOW: u64 = bits(&[16, 18, 19, 23, 24, 25, 26, 31, 33, 49, 51, 60, 62]);

/// RECVTCLASS, TCLASS, AUTOFLOWLABEL, ADDR_PREFERENCES, MINHOPCOUNT, RECVORIGDSTADDR,
/// RECVFRAGSIZE, less 64.
const IPV6_ALLOWED_HIGH: u64 = bits(&[
    66 - 64,
    67 - 64,
    70 - 64,
    72 - 64,
    73 - 64,
    74 - 64,
    77 - 64,
]);

const fn bits(numbers: &[u32]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < numbers.len() {
        bits |= 1 << numbers[at];
        at += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_keep_what_they_use() {
        let (keepalive, nodelay, cork) = ((1, 9), (6, 1), (6, 3));
        let (tos, v6only, tclass, no_port) = ((0, 1), (41, 26), (41, 67), (0, 24));
        for (level, name) in [keepalive, nodelay, cork, tos, v6only, tclass, no_port] {
            assert!(may_set(level, name), "{level} {name}");
        }
    }

    #[test]
    fn what_changes_the_way_of_a_packet_is_refused() {
        let ip = [
            3,   // IP_HDRINCL
            4,   // IP_OPTIONS
            5,   // IP_ROUTER_ALERT
            7,   // IP_RETOPTS
            15,  // IP_FREEBIND
            19,  // IP_TRANSPARENT
            32,  // IP_MULTICAST_IF
            35,  // IP_ADD_MEMBERSHIP
            39,  // IP_ADD_SOURCE_MEMBERSHIP
            42,  // MCAST_JOIN_GROUP
            46,  // MCAST_JOIN_SOURCE_GROUP
            50,  // IP_UNICAST_IF
            64,  // IPT_SO_SET_REPLACE
            200, // MRT_INIT
            u32::MAX,
        ];
        for name in ip {
            assert!(!may_set(SOL_IP, name), "IP {name}");
        }
        let ipv6 = [
            17, // IPV6_MULTICAST_IF
            20, // IPV6_ADD_MEMBERSHIP
            27, // IPV6_JOIN_ANYCAST
            22, // IPV6_ROUTER_ALERT
            42, // MCAST_JOIN_GROUP
            50, // IPV6_PKTINFO
            54, // IPV6_HOPOPTS
            57, // IPV6_RTHDR
            55, // IPV6_RTHDRDSTOPTS
            59, // IPV6_DSTOPTS
            6,  // IPV6_2292PKTOPTIONS
            75, // IPV6_TRANSPARENT
            76, // IPV6_UNICAST_IF
            78, // IPV6_FREEBIND
            36, // IPV6_HDRINCL
            200,
            u32::MAX,
        ];
        for name in ipv6 {
            assert!(!may_set(SOL_IPV6, name), "IPv6 {name}");
        }
        for name in [SO_BINDTODEVICE, SO_BINDTOIFINDEX] {
            assert!(!may_set(SOL_SOCKET, name), "socket {name}");
        }
    }
}
