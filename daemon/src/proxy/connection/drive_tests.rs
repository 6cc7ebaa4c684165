//! A connection whose agent and server the test plays, over real sockets.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use arc_swap::ArcSwap;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::super::{Destinations, Limits, Parts, Target as Place, Workers};
use super::*;
use crate::audit::AuditLog;
use crate::authority::Authority;
use crate::capture::{Asker, AskerSource, CaptureError, NetnsCookie, Origin, OriginSource};
use crate::dns::{self, Resolver};
use crate::identity::{AgentSession, Registry};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::types::{CgroupId, ConnectionId, OrigDst, PeerAddr};
use crate::vault::Vault;

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const CGROUP: CgroupId = CgroupId(7);
const MESSAGE: usize = 16 << 20;

/// There are no kernel programs.
struct Nobody;

impl OriginSource for Nobody {
    fn take_origin(&self, _: PeerAddr, _: NetnsCookie) -> Result<Option<Origin>, CaptureError> {
        Ok(None)
    }
}

impl AskerSource for Nobody {
    fn asker(&self, _: PeerAddr, _: NetnsCookie) -> Result<Option<Asker>, CaptureError> {
        Ok(None)
    }
}

/// An open connection.
struct Scene {
    proxy: Arc<Proxy>,
    /// Tells of a new policy.
    changed: watch::Sender<u64>,
    agent: TcpStream,
    server: TcpStream,
    drive: JoinHandle<()>,
    log: PathBuf,
    address: SocketAddr,
    _left: watch::Sender<()>,
    _directory: tempfile::TempDir,
}

fn policy(address: SocketAddr, credential: &str, user: &str, generation: u64) -> Policy {
    let text = format!(
        "
version: 1
roles: {{analyst: {{}}}}
services:
  shop:
    proto: postgres
    at: ['{address}']
    user: {user}
    credential: 'file:{credential}'
    tls: disable
    auth: [password-unencrypted]
rules:
  - {{id: any, role: analyst, allow: [sql.select, sql.unknown], on: [shop]}}
"
    );
    let (policy, _) = Policy::from_texts([("p.yaml", text.as_str())], generation).expect("policy");
    policy
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn query(text: &str) -> Vec<u8> {
    frame(b'Q', format!("{text}\0").as_bytes())
}

/// What a server says up to its first ReadyForQuery.
fn welcome() -> Vec<u8> {
    let status = |name, value| frame(b'S', format!("{name}\0{value}\0").as_bytes());
    [
        frame(b'R', &[0, 0, 0, 0]),
        status("client_encoding", "UTF8"),
        status("server_encoding", "UTF8"),
        status("standard_conforming_strings", "on"),
        frame(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
        frame(b'Z', b"I"),
    ]
    .concat()
}

fn proxy(directory: &std::path::Path, policy: Policy) -> (Arc<Proxy>, watch::Sender<u64>) {
    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let (changed, policy_changes) = watch::channel(1);
    let audit = AuditLog::open(&directory.join("audit.jsonl"), false).expect("log");
    let (audit, sessions) = (Arc::new(audit), Arc::new(Registry::default()));
    let metrics = Arc::new(Metrics::default());
    sessions.insert(AgentSession::of_test("/x".as_ref(), CGROUP));
    let resolver = Resolver::new(dns::Parts {
        policy: Arc::clone(&policy),
        sessions: Arc::clone(&sessions),
        audit: Arc::clone(&audit),
        askers: Arc::new(Nobody),
        metrics: Arc::clone(&metrics),
    });
    let proxy = Proxy::new(Parts {
        policy,
        policy_changes,
        destinations: Arc::new(ArcSwap::from_pointee(Destinations::default())),
        sessions,
        audit,
        origins: Arc::new(Nobody),
        resolver: Arc::new(resolver),
        metrics,
        vault: Arc::new(Vault::new(crate::vault::Parts::default())),
        authority: Arc::new(Authority::open(directory).expect("authority")),
        limits: Limits {
            connections: 10,
            startup: PATIENCE,
            message: MESSAGE,
            memory: 4 * MESSAGE,
        },
        workers: Workers::start(1, 1 << 20, || {}).expect("a thread"),
    });
    (Arc::new(proxy), changed)
}

fn admitted(proxy: &Proxy, address: SocketAddr) -> Admitted {
    let policy = proxy.policy.load();
    let service = policy.services().next().expect("a service").clone();
    Admitted {
        id: ConnectionId::next(),
        session: proxy.sessions.find(CGROUP).expect("a session"),
        origin: Origin {
            dst: OrigDst::new(address),
            cgroup: CGROUP,
            session: CGROUP,
            pid: 1,
            uid: 0,
            comm: "agent".into(),
        },
        target: Place {
            service: service.name.clone(),
            host: "127.0.0.1".into(),
        },
        service,
        name: None,
    }
}

async fn until(socket: &mut TcpStream, end: &[u8]) {
    let mut said = Vec::new();
    while !said.ends_with(end) {
        let read = timeout(PATIENCE, socket.read_buf(&mut said)).await;
        assert_ne!(read.expect("in time").expect("read"), 0, "{said:?}");
    }
}

impl Scene {
    async fn open() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let credential = directory.path().join("password");
        std::fs::write(&credential, "secret").expect("write");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&credential, private).expect("chmod");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let policy = policy(address, &credential.display().to_string(), "gate", 1);
        let (proxy, changed) = proxy(directory.path(), policy);
        let agents = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let agent = TcpStream::connect(agents.local_addr().expect("address"));
        let (agent, near) = tokio::join!(agent, agents.accept());
        let (mut agent, near) = (agent.expect("connect"), near.expect("accept").0);
        let drive = Drive::new(&proxy, admitted(&proxy, address), near);
        let (left, listeners) = watch::channel(());
        let drive = tokio::spawn(drive.run(Left::of(listeners)));
        let start = [
            &196_608_u32.to_be_bytes()[..],
            b"user\0a\0database\0shop\0\0",
        ]
        .concat();
        let length = u32::try_from(start.len() + 4).expect("short");
        agent.write_all(&length.to_be_bytes()).await.expect("write");
        agent.write_all(&start).await.expect("write");
        let mut server = listener.accept().await.expect("accept").0;
        until(&mut server, b"\0\0").await;
        let ask = frame(b'R', &[0, 0, 0, 3]);
        server.write_all(&ask).await.expect("write");
        until(&mut server, b"secret\0").await;
        server.write_all(&welcome()).await.expect("write");
        until(&mut agent, &frame(b'Z', b"I")).await;
        Self {
            proxy,
            changed,
            agent,
            server,
            drive,
            log: directory.path().join("audit.jsonl"),
            address,
            _left: left,
            _directory: directory,
        }
    }

    /// Waits for so many decisions in the record.
    async fn decided(&self, count: usize) {
        let there = async {
            loop {
                let log = std::fs::read_to_string(&self.log).expect("log");
                if log.matches("\"decision\":\"allow\"").count() >= count {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, there).await.expect("a decision");
    }
}

#[tokio::test]
async fn what_runs_is_counted_for_as_long_as_its_connection_lives() {
    let mut scene = Scene::open().await;
    scene
        .agent
        .write_all(&query("SELECT 1"))
        .await
        .expect("write");
    until(&mut scene.server, b"SELECT 1\0").await;
    assert_eq!(scene.proxy.busy(), 1);
    // As after a panic: it is dropped in the middle.
    scene.drive.abort();
    assert!(scene.drive.await.is_err());
    assert_eq!(scene.proxy.busy(), 0);
}

#[tokio::test]
async fn what_an_old_policy_allowed_is_not_sent_once_the_service_has_changed() {
    let mut scene = Scene::open().await;
    // Far more than the sockets take while the server does not read.
    let statement = query(&format!("SELECT '{}'", "x".repeat(MESSAGE - 100)));
    let said = scene.agent.write_all(&statement);
    timeout(PATIENCE, said)
        .await
        .expect("in time")
        .expect("write");
    scene.decided(1).await;
    let changed = policy(scene.address, "/elsewhere", "gate", 2);
    scene.proxy.policy.store(Arc::new(changed));
    scene.changed.send(2).expect("heard");
    // Nothing moves on it but what it still sends.
    let mut sent = Vec::new();
    let ended = timeout(PATIENCE, scene.server.read_to_end(&mut sent)).await;
    ended.expect("in time").expect("read");
    assert!(sent.len() < statement.len(), "all of it was sent");
    until(&mut scene.agent, b"\0\0").await;
    timeout(PATIENCE, scene.drive)
        .await
        .expect("in time")
        .expect("no panic");
}
