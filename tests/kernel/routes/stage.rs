//! Where a route is tried: a gate in the agent's namespace, the world around it, an agent
//! that is root and one that is not.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Route, Seen};
use crate::bench::Bench;
use crate::escape::{Answer, Escape};
use crate::world::{BROADCAST4, DEVICE, OWN4, SINK4, SINK6, World};

const GROUP4: &str = "239.198.51.100";
const GROUP6: &str = "ff15::db8:1";
/// An address of the sink at which a service of the policy is.
const SERVICE: u16 = 5432;
/// How long to watch for what must not come, and at most for what must.
const QUIET: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(2);

/// Who tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

/// One stage for one test.
pub struct Stage {
    pub bench: Bench,
    world: World,
    root: Escape,
    user: Escape,
    local: TcpListener,
    local_udp: UdpSocket,
    unix: Unix,
}

/// Helpers outside the session, on unix sockets that everybody may use.
struct Unix {
    directory: TempDir,
    name: String,
    streams: [UnixListener; 2],
    datagrams: [UnixDatagram; 2],
}

impl Stage {
    pub fn new() -> Self {
        let world = World::new();
        let bench = Bench::in_netns(&world.agent);
        let services = [SINK4.to_owned(), format!("[{SINK6}]")];
        let services: HashSet<SocketAddr> = services
            .map(|host| format!("{host}:{SERVICE}").parse().expect("an address"))
            .into();
        bench.gate().set_destinations(&services).expect("services");
        let (session, _agent) = bench.session();
        let root = Escape::start(&session.path, &world.agent);
        let mut user = Escape::start(&session.path, &world.agent);
        user.become_user(54_321);
        let bound = world.agent.run(|| {
            Ok((
                TcpListener::bind("0.0.0.0:0")?,
                UdpSocket::bind("127.0.0.1:0")?,
            ))
        });
        let (local, local_udp) = bound.expect("listeners beside the agent");
        local.set_nonblocking(true).expect("non-blocking");
        local_udp.set_nonblocking(true).expect("non-blocking");
        // Abstract names are those of a namespace.
        let unix = world.agent.run(|| Ok(Unix::new())).expect("helpers");
        Self {
            bench,
            world,
            root,
            user,
            local,
            local_udp,
            unix,
        }
    }

    /// Tries the route. The answer, and whether somebody saw what must not be seen;
    /// `expected` says how long to look.
    pub fn attempt(&mut self, route: &Route, who: Who, expected: bool) -> (Answer, bool) {
        let request = self.request(route);
        self.forget();
        if route.seen == Seen::Bound {
            self.free_gate_ports();
        }
        let answer = self.ask(who, route.name, &request);
        if let Seen::Inbound(from) = route.seen {
            assert_eq!(answer.errno, None, "a listener by itself is no way out");
            self.call_in(from, &request);
            let heard = self.ask(who, "heard", &json!({}));
            let saw = heard.errno.is_none();
            return (heard, saw);
        }
        let saw = self.saw(route, &request, &answer, expected);
        (answer, saw)
    }

    /// Asks an agent without looking at anything else.
    pub fn ask(&mut self, who: Who, route: &str, with: &Value) -> Answer {
        match who {
            Who::Root => self.root.ask(route, with),
            Who::User => self.user.ask(route, with),
        }
    }

    /// Asks a process that is in no session.
    pub fn ask_outside(&self, route: &str, with: &Value) -> Answer {
        let started = self.world.agent.run(|| Ok(Escape::start_outside()));
        started.expect("the namespace").ask(route, with)
    }

    fn request(&self, route: &Route) -> Value {
        static NEXT: AtomicU16 = AtomicU16::new(20_000);
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let listener = &self.bench.config.listener;
        json!({
            "v4": SINK4, "v6": SINK6, "own4": OWN4, "device": DEVICE, "port": port,
            "service": SERVICE, "token": format!("token-{}-{port}", std::process::id()),
            "broadcast": BROADCAST4, "group4": GROUP4, "group6": GROUP6,
            "join4": GROUP4, "join6": GROUP6, "spoofed": "198.51.100.77",
            "local": self.local.local_addr().expect("an address").port(),
            "local_udp": self.local_udp.local_addr().expect("an address").port(),
            "gate4": listener.v4.port(), "gate6": listener.v6.map_or(0, |v6| v6.port()),
            "unix": self.unix.address(route),
        })
    }

    /// What came before this try is not of this try.
    fn forget(&mut self) {
        for agent in [&mut self.root, &mut self.user] {
            agent.ask("nothing", &json!({}));
        }
        self.world.drain();
        while self.local.accept().is_ok() {}
        while self.local_udp.recv(&mut [0; 100]).is_ok() {}
        while self.unix.has_any() {}
    }

    fn saw(&self, route: &Route, request: &Value, answer: &Answer, expected: bool) -> bool {
        let limit = if expected { PATIENCE } else { QUIET };
        let token = request["token"].as_str().expect("text").as_bytes();
        let port = request["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let far = |is_it: &dyn Fn(&crate::world::Frame) -> bool| self.world.saw(limit, is_it);
        match route.seen {
            Seen::Token => far(&|frame| frame.contains(token)),
            Seen::Port => far(&|frame| frame.port() == port),
            Seen::Protocol(number) => far(&|frame| frame.protocol() == Some(number)),
            Seen::Group4 => {
                far(&|frame| frame.protocol() == Some(2) && frame.contains(&octets(GROUP4)))
            }
            Seen::Group6 => {
                far(&|frame| frame.protocol() == Some(0) && frame.contains(&octets(GROUP6)))
            }
            Seen::Local => soon(limit, || self.local.accept().is_ok()),
            Seen::LocalUdp => soon(limit, || self.local_udp.recv(&mut [0; 100]).is_ok()),
            Seen::Unix(_) => soon(limit, || self.unix.has_any()),
            Seen::Bound => answer.errno.is_none(),
            Seen::Inbound(_) => unreachable!("asked from the agent"),
        }
    }

    /// Someone calls the agent's listener.
    fn call_in(&self, from: From, request: &Value) {
        let port = request["port"].as_u64().expect("a number");
        let to: SocketAddr = match from {
            From::Far => format!("{OWN4}:{port}"),
            From::FarV6 => format!("[2001:db8:5::1]:{port}"),
            From::FarUdp => format!("{OWN4}:{port}"),
            From::Beside => format!("127.0.0.1:{port}"),
        }
        .parse()
        .expect("an address");
        let call = || {
            if from == From::FarUdp {
                UdpSocket::bind("0.0.0.0:0")?.send_to(b"token", to)?;
            } else {
                // It is the agent's answer that counts.
                let _ = TcpStream::connect_timeout(&to, Duration::from_millis(200));
            }
            Ok(())
        };
        let beside = from == From::Beside;
        let netns = if beside {
            &self.world.agent
        } else {
            &self.world.outside
        };
        netns.run(call).expect("the namespace");
    }

    /// As if the daemon were dead.
    fn free_gate_ports(&mut self) {
        let elsewhere = || TcpListener::bind("127.0.0.1:0").expect("listen");
        self.bench.listener4 = elsewhere();
        self.bench.listener6 = elsewhere();
    }
}

/// Where a call to the agent's listener comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Far,
    FarV6,
    FarUdp,
    Beside,
}

impl Unix {
    fn new() -> Self {
        let directory = TempDir::with_prefix("portcullis-unix-").expect("a directory");
        let open = |path: &std::path::Path| {
            let mode = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(path, mode).expect("chmod");
        };
        let name = directory.path().file_name().expect("a name");
        let name = name.to_string_lossy().into_owned();
        let (stream, datagram) = (
            directory.path().join("stream"),
            directory.path().join("dgram"),
        );
        let hidden =
            |kind: &str| UnixAddr::from_abstract_name(format!("{name}-{kind}")).expect("a name");
        let streams = [
            UnixListener::bind(&stream).expect("bind"),
            UnixListener::bind_addr(&hidden("stream")).expect("bind"),
        ];
        let datagrams = [
            UnixDatagram::bind(&datagram).expect("bind"),
            UnixDatagram::bind_addr(&hidden("dgram")).expect("bind"),
        ];
        for path in [directory.path(), &stream, &datagram] {
            open(path);
        }
        for stream in &streams {
            stream.set_nonblocking(true).expect("non-blocking");
        }
        for datagram in &datagrams {
            datagram.set_nonblocking(true).expect("non-blocking");
        }
        Self {
            directory,
            name,
            streams,
            datagrams,
        }
    }

    fn address(&self, route: &Route) -> String {
        let Seen::Unix(address) = route.seen else {
            return String::new();
        };
        match address.strip_prefix('@') {
            Some(kind) => format!("@{}-{kind}", self.name),
            None => self.directory.path().join(address).display().to_string(),
        }
    }

    fn has_any(&self) -> bool {
        let accepted = self.streams.iter().any(|stream| stream.accept().is_ok());
        accepted
            || self
                .datagrams
                .iter()
                .any(|socket| socket.recv(&mut [0; 100]).is_ok())
    }
}

fn soon(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + limit;
    loop {
        if look() {
            return true;
        }
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn octets(addr: &str) -> Vec<u8> {
    match addr.parse().expect("an address") {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
