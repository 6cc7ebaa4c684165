//! Two network namespaces with a cable between them: one for the agent, one for what it
//! must not reach. Nothing of the host's own network is touched.

use std::io::{ErrorKind, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::gettid;
use portcullis_tests::netns::TestNetns;
use socket2::{Domain, Protocol, Socket, Type};

/// The agent's end of the cable and its addresses.
pub const DEVICE: &str = "agent0";
pub const OWN4: &str = "198.51.100.1";
const OWN6: &str = "2001:db8:5::1";
/// The other end's.
pub const SINK4: &str = "198.51.100.2";
pub const SINK6: &str = "2001:db8:5::2";
pub const BROADCAST4: &str = "198.51.100.255";

/// Both namespaces, and the one who listens on the far end.
pub struct World {
    pub agent: TestNetns,
    pub outside: TestNetns,
    sink: Socket,
}

impl World {
    pub fn new() -> Self {
        let (agent, outside) = (namespace(), namespace());
        cable(&agent, &outside).expect("a pair of devices");
        let sink = outside.run(listen).expect("a packet socket");
        Self {
            agent,
            outside,
            sink,
        }
    }

    /// Forgets what has arrived so far.
    pub fn drain(&self) {
        while self.frame(Duration::from_millis(1)).is_some() {}
    }

    /// Does a frame like this arrive within the time?
    pub fn saw(&self, limit: Duration, is_it: impl Fn(&Frame) -> bool) -> bool {
        let end = Instant::now() + limit;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let Some(frame) = self.frame(left) else {
                return false;
            };
            if is_it(&frame) {
                return true;
            }
        }
        false
    }

    fn frame(&self, limit: Duration) -> Option<Frame> {
        let limit = limit.max(Duration::from_millis(1));
        self.sink.set_read_timeout(Some(limit)).expect("a time-out");
        let mut buffer = [0; 2048];
        match (&self.sink).read(&mut buffer) {
            Ok(length) => Some(Frame(buffer.into_iter().take(length).collect())),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.frame(limit),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("recv: {error}"),
        }
    }
}

/// An Ethernet frame at the far end.
pub struct Frame(Vec<u8>);

impl Frame {
    /// Protocol number of an IPv4 packet, or the first next-header of an IPv6 packet, that
    /// the far end has not sent itself.
    pub fn protocol(&self) -> Option<u8> {
        let packet = self.0.get(14..)?;
        let own4: std::net::Ipv4Addr = SINK4.parse().expect("literal");
        let own6: std::net::Ipv6Addr = SINK6.parse().expect("literal");
        match self.0.get(12..14)? {
            [0x08, 0x00] if packet.get(12..16)? != own4.octets() => packet.get(9).copied(),
            [0x86, 0xdd] if packet.get(8..24)? != own6.octets() => packet.get(6).copied(),
            _ => None,
        }
    }

    /// Destination port, where the transport header has one, under the same condition.
    pub fn port(&self) -> Option<u16> {
        self.protocol()?;
        let packet = self.0.get(14..)?;
        let header = match packet.first()? >> 4 {
            4 => usize::from(packet.first()? & 0xf) * 4,
            _ => 40,
        };
        let port = packet.get(header + 2..header + 4)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    }

    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.0.windows(bytes.len()).any(|window| window == bytes)
    }
}

fn namespace() -> TestNetns {
    let netns = TestNetns::new().expect("a network namespace");
    let set_up = || {
        ip("link set lo up")?;
        // Ping sockets are for everybody here.
        let path = "/proc/sys/net/ipv4/ping_group_range";
        std::fs::write(path, "0 2147483647").context(path)
    };
    netns.run(set_up).expect("the loopback device");
    netns
}

fn cable(agent: &TestNetns, outside: &TestNetns) -> Result<()> {
    outside.run(|| {
        let here = gettid();
        agent.run(|| {
            ip(&format!(
                "link add {DEVICE} type veth peer name sink0 netns {here}"
            ))?;
            ip(&format!("addr add {OWN4}/24 brd + dev {DEVICE}"))?;
            ip(&format!("addr add {OWN6}/64 nodad dev {DEVICE}"))?;
            ip(&format!("link set {DEVICE} up"))?;
            ip(&format!("route add default via {SINK4}"))?;
            ip(&format!("route add default via {SINK6} dev {DEVICE}"))
        })?;
        ip(&format!("addr add {SINK4}/24 brd + dev sink0"))?;
        ip(&format!("addr add {SINK6}/64 nodad dev sink0"))?;
        ip("link set sink0 up")
    })
}

fn ip(words: &str) -> Result<()> {
    let done = Command::new("ip").args(words.split(' ')).output();
    let done = done.context("start ip")?;
    let error = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "ip {words}: {error}");
    Ok(())
}

/// A packet socket that sees all that arrives.
fn listen() -> Result<Socket> {
    const ETH_P_ALL: u16 = 3;
    let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    Socket::new(Domain::PACKET, Type::RAW, Some(all)).context("socket(AF_PACKET)")
}
