//! Unix sockets: a session reaches the addresses on its list and no others.
//!
//! Seen to fail: with the list not asked, the addresses that are not on it; with the length
//! of abstract names left out of the key, the one with a zero more; with the session left
//! out of the key, the other session.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;

use portcullis::capture::{Reason, SessionCgroup, UnixAddress};
use portcullis::types::SessionId;
use serde_json::json;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::escape::Escape;

struct Helpers {
    bench: Bench,
    session: SessionCgroup,
    agent: Escape,
    directory: TempDir,
    _streams: Vec<UnixListener>,
    _datagram: UnixDatagram,
}

impl Helpers {
    fn new() -> Self {
        let bench = Bench::new();
        let (session, _) = bench.session();
        let agent = Escape::start_here(&session.path);
        let directory = TempDir::with_prefix("portcullis-unix-").expect("a directory");
        let hidden = |end: &str| {
            let name = format!("portcullis-{}{end}", directory.path().display());
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).expect("a name"))
        };
        let streams = [
            UnixListener::bind(directory.path().join("one")),
            UnixListener::bind(directory.path().join("two")),
            hidden(""),
            hidden("\0"),
        ];
        let datagram = UnixDatagram::bind(directory.path().join("datagram")).expect("bind");
        Self {
            bench,
            session,
            agent,
            _streams: streams.map(|stream| stream.expect("bind")).into(),
            _datagram: datagram,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn connect(&mut self, name: &str) -> Option<String> {
        self.agent
            .ask("unix_stream", &json!({ "unix": name }))
            .errno
    }

    fn allow(&self, list: &[UnixAddress]) {
        let gate = self.bench.gate();
        gate.set_unix_allowed(self.session.id, list)
            .expect("the list");
    }
}

fn refused() -> Option<String> {
    Some("EACCES".into())
}

#[test]
fn the_unix_hooks_are_in_force_on_this_kernel() {
    let bench = Bench::new();
    assert_eq!(bench.gate().missing_layers(), []);
    let layers = bench.gate().all_layers().expect("in force");
    assert!(
        layers
            .in_force
            .iter()
            .any(|layer| layer.hook == "unix_connect")
    );
    assert!(layers.missing.is_empty());
}

#[test]
fn a_path_that_is_on_the_list() {
    let mut helpers = Helpers::new();
    let (one, two) = (helpers.path("one"), helpers.path("two"));
    let (first, second) = (one.display().to_string(), two.display().to_string());
    assert_eq!(helpers.connect(&first), refused());
    let event = helpers.bench.event();
    assert_eq!(
        (event.reason, event.hook),
        (Reason::UnixAddress, "unix_connect")
    );
    let address = UnixAddress::path(&one).expect("a path");
    assert_eq!(event.unix, Some(address));
    assert_eq!((event.session, event.dst), (Some(helpers.session.id), None));

    helpers.allow(&[address]);
    assert_eq!(helpers.connect(&first), None);
    assert_eq!(helpers.connect(&second), refused());
    // The same file by another spelling is another address.
    let spelled = first.replacen("/portcullis", "/./portcullis", 1);
    assert_eq!(helpers.connect(&spelled), refused());
    helpers.allow(&[UnixAddress::path(&two).expect("a path")]);
    assert_eq!(helpers.connect(&first), refused());
    assert_eq!(helpers.connect(&second), None);
    helpers.allow(&[]);
    assert_eq!(helpers.connect(&second), refused());
}

#[test]
fn an_abstract_name_that_is_on_the_list() {
    let mut helpers = Helpers::new();
    let name = format!("portcullis-{}", helpers.directory.path().display());
    let address = UnixAddress::abstract_name(name.as_bytes()).expect("a name");
    assert_eq!(helpers.connect(&format!("@{name}")), refused());
    assert_eq!(helpers.bench.event().unix, Some(address));
    helpers.allow(&[address]);
    assert_eq!(helpers.connect(&format!("@{name}")), None);
    assert_eq!(helpers.connect(&format!("@{name}\0")), refused());
}

#[test]
fn datagrams_by_the_same_list() {
    let mut helpers = Helpers::new();
    let path = helpers.path("datagram");
    let with = json!({ "unix": path.display().to_string(), "token": "x" });
    for route in ["unix_dgram_sendto", "unix_dgram_connect"] {
        assert_eq!(helpers.agent.ask(route, &with).errno, refused());
    }
    helpers.allow(&[UnixAddress::path(&path).expect("a path")]);
    for route in ["unix_dgram_sendto", "unix_dgram_connect"] {
        assert_eq!(helpers.agent.ask(route, &with).errno, None);
    }
}

#[test]
fn the_list_is_the_sessions_own_and_outlives_the_daemon() {
    let mut helpers = Helpers::new();
    let path = helpers.path("one");
    let text = path.display().to_string();
    helpers.allow(&[UnixAddress::path(&path).expect("a path")]);
    let (other, _) = helpers.bench.session();
    let mut stranger = Escape::start_here(&other.path);
    let with = json!({ "unix": text });
    assert_eq!(stranger.ask("unix_stream", &with).errno, refused());
    assert_eq!(helpers.bench.event().session, Some(other.id));

    helpers.bench.restore();
    assert_eq!(helpers.connect(&text), None);
    let gate = helpers.bench.gate();
    gate.forget_session(helpers.session.id).expect("close");
    assert_eq!(helpers.connect(&text), refused());
    assert_eq!(helpers.bench.event().reason, Reason::NoSession);
    // A session of the same cgroup starts with nothing.
    let gate = helpers.bench.gate();
    gate.open_session(helpers.session.id).expect("open");
    assert_eq!(helpers.connect(&text), refused());
}

#[test]
fn a_cgroup_in_no_session_reaches_none() {
    let helpers = Helpers::new();
    let gate = helpers.bench.gate();
    let lone = gate.create_session_cgroup(gate.enforced(), &SessionId::random());
    let mut agent = Escape::start_here(&lone.expect("a cgroup").path);
    let path = helpers.path("one").display().to_string();
    let answer = agent.ask("unix_stream", &json!({ "unix": path }));
    assert_eq!(answer.errno, refused());
}
