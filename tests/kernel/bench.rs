//! The bench that a kernel test works at: a gate, its listener, one session.

use std::collections::HashSet;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis::capture::{
    Events, Gate, GateConfig, GateRefused, ListenerConfig, NetnsCookie, Origin, SessionCgroup,
};
use portcullis::sys;
use portcullis::types::{PeerAddr, SessionId};
use portcullis_tests::bpffs::TestBpffs;
use portcullis_tests::cgroup::TestCgroup;
use portcullis_tests::netns::TestNetns;

use crate::agent::Agent;

/// Destinations that count as services. None of them exists.
pub const SERVICES: [&str; 3] = ["192.0.2.1:5432", "[2001:db8::1]:5432", "127.0.0.1:1"];

/// Fields drop in this order: the gate, then its pins, then the cgroup.
pub struct Bench {
    pub gate: Option<Gate>,
    pub events: Option<Events>,
    pub listener4: TcpListener,
    pub listener6: TcpListener,
    pub config: GateConfig,
    pub bpffs: TestBpffs,
    pub cgroup: TestCgroup,
}

impl Bench {
    /// A gate with room for 64 waiting connections.
    pub fn new() -> Self {
        Self::with_connections(64)
    }

    pub fn with_connections(connections: u32) -> Self {
        Self::with_listeners(connections, listen())
    }

    /// A gate that listens in another network namespace, whose loopback device is up.
    pub fn in_netns(netns: &TestNetns) -> Self {
        Self::with_listeners(64, netns.run(|| Ok(listen())).expect("the namespace"))
    }

    fn with_listeners(connections: u32, listeners: (TcpListener, TcpListener)) -> Self {
        let cgroup = TestCgroup::new().expect("a cgroup name");
        let bpffs = TestBpffs::new().expect("a directory");
        let (listener4, listener6) = listeners;
        for listener in [&listener4, &listener6] {
            listener.set_nonblocking(true).expect("non-blocking");
        }
        let config = GateConfig {
            cgroup: cgroup.name().to_owned(),
            bpffs: bpffs.path().to_owned(),
            pins: "portcullis".to_owned(),
            listener: ListenerConfig {
                v4: v4(&listener4),
                v6: Some(v6(&listener6)),
                dns4: None,
                dns6: None,
                netns: NetnsCookie::of_socket(&listener4).expect("netns cookie"),
            },
            connections,
        };
        let mut bench = Self {
            gate: None,
            events: None,
            listener4,
            listener6,
            config,
            bpffs,
            cgroup,
        };
        bench.start();
        let services = SERVICES.iter().map(|text| text.parse().expect("literal"));
        let services: HashSet<SocketAddr> = services.collect();
        bench
            .gate()
            .set_destinations(&services)
            .expect("destinations");
        bench
    }

    /// Starts a gate on the pins, as a daemon does.
    pub fn start(&mut self) {
        let (gate, events) = Gate::start(&self.config).expect("start the gate");
        (self.gate, self.events) = (Some(gate), Some(events));
    }

    /// What is left when a daemon is killed: nothing runs its destructors on the kernel.
    pub fn kill_daemon(&mut self) {
        (self.gate, self.events) = (None, None);
    }

    pub fn gate(&self) -> &Gate {
        self.gate.as_ref().expect("the gate is up")
    }

    /// An open session and an agent in it.
    pub fn session(&self) -> (SessionCgroup, Agent) {
        let gate = self.gate();
        let session = gate
            .create_session_cgroup(gate.enforced(), &SessionId::random())
            .expect("session cgroup");
        self.gate()
            .open_session(session.id)
            .expect("open the session");
        let agent = Agent::start(&session.path);
        (session, agent)
    }

    /// Accepts at the gate's IPv4 listener and takes the origin.
    pub fn accept4(&self) -> (TcpStream, PeerAddr, Option<Origin>) {
        self.accept(&self.listener4)
    }

    /// The same at the IPv6 listener.
    pub fn accept6(&self) -> (TcpStream, PeerAddr, Option<Origin>) {
        self.accept(&self.listener6)
    }

    fn accept(&self, listener: &TcpListener) -> (TcpStream, PeerAddr, Option<Origin>) {
        let (stream, peer) = within(|| listener.accept().ok()).expect("a connection to the gate");
        let (peer, netns) = (PeerAddr(peer), self.config.listener.netns);
        let origin = self.gate().take_origin(peer, netns).expect("the maps");
        (stream, peer, origin)
    }

    /// Did nobody come to the gate?
    pub fn is_quiet(&self) -> bool {
        self.listener4.accept().is_err() && self.listener6.accept().is_err()
    }

    /// The next event of a refusal.
    pub fn event(&mut self) -> GateRefused {
        let events = self.events.as_mut().expect("the gate is up");
        within(|| events.try_next()).expect("an event")
    }

    /// Takes a program off the enforced cgroup and its link away. [`Bench::restore`] puts
    /// all back.
    pub fn detach(&self, hook: &str) {
        let pin = self.link(hook);
        let path = std::ffi::CString::new(pin.as_os_str().as_encoded_bytes()).expect("a path");
        let link = sys::bpf_object(&path).expect("a pinned link");
        sys::bpf_link_detach(link.as_fd()).expect("detach");
        std::fs::remove_file(pin).expect("unpin");
    }

    /// Puts back what was detached, as the next daemon does.
    pub fn restore(&mut self) {
        self.kill_daemon();
        self.start();
    }

    /// Where the links are pinned.
    pub fn link(&self, hook: &str) -> PathBuf {
        self.bpffs.path().join("portcullis/links").join(hook)
    }

    /// How many connections wait, once that number has settled at `wanted`.
    pub fn settles_at(&self, wanted: usize) -> bool {
        let waiting = || self.gate().waiting().expect("the maps");
        within(|| (waiting() == wanted).then_some(())).is_some()
    }
}

fn listen() -> (TcpListener, TcpListener) {
    let listen = |addr| TcpListener::bind(addr).expect("listen");
    (listen("127.0.0.1:0"), listen("[::1]:0"))
}

/// Tries for a second.
fn within<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let result = attempt();
        if result.is_some() || start.elapsed() > Duration::from_secs(1) {
            return result;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn v4(listener: &TcpListener) -> SocketAddrV4 {
    match listener.local_addr() {
        Ok(SocketAddr::V4(addr)) => addr,
        other => panic!("not IPv4: {other:?}"),
    }
}

fn v6(listener: &TcpListener) -> SocketAddrV6 {
    match listener.local_addr() {
        Ok(SocketAddr::V6(addr)) => addr,
        other => panic!("not IPv6: {other:?}"),
    }
}
