//! Two real sockets, and a far end of each that the test plays.

mod memory;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::super::budget::Budget;
use super::*;
use crate::authority::Authority;
use crate::types::SessionId;

const A_WHILE: Duration = Duration::from_millis(100);
/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    near: Near,
    far_agent: TcpStream,
    far_upstream: TcpStream,
}

/// The gate's side.
struct Near {
    pump: Pump,
    io: Buffers,
    agent: Stream,
    upstream: Stream,
}

impl Near {
    async fn next(&mut self) -> Event {
        let Self {
            pump,
            io,
            agent,
            upstream,
        } = self;
        poll_fn(|cx| pump.poll(cx, io, agent, Some(upstream))).await
    }

    /// Moves bytes, with `work` after each move, until something else than that happens.
    async fn run(&mut self, mut work: impl FnMut(&mut Buffers)) -> Event {
        loop {
            match self.next().await {
                Event::Progress => work(&mut self.io),
                other => return other,
            }
        }
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connect"), far.expect("accept").0)
}

impl Bench {
    async fn new(message_limit: usize) -> Self {
        Self::with(message_limit, &Budget::new(1 << 30, 0)).await
    }

    async fn with(message_limit: usize, budget: &Budget) -> Self {
        Self::of(&SessionId::random(), message_limit, budget).await
    }

    async fn of(session: &SessionId, message_limit: usize, budget: &Budget) -> Self {
        let (agent, far_agent) = pair().await;
        let (upstream, far_upstream) = pair().await;
        Self {
            near: Near {
                pump: Pump::new(message_limit, budget.share(session)),
                io: Buffers::default(),
                agent: Stream::Plain(agent),
                upstream: Stream::Plain(upstream),
            },
            far_agent,
            far_upstream,
        }
    }

    /// What happens next; none if nothing does for a while.
    async fn next(&mut self) -> Option<Event> {
        timeout(A_WHILE, self.near.next()).await.ok()
    }

    /// Until nothing moves.
    async fn settle(&mut self) -> Option<Event> {
        loop {
            match self.next().await {
                Some(Event::Progress) => {}
                other => return other,
            }
        }
    }
}

/// Writes for as long as somebody reads; how much that was.
async fn pour(socket: &mut TcpStream, most: usize) -> usize {
    let mut written = 0;
    let chunk = vec![b'x'; 64 * 1024];
    while written < most {
        match timeout(A_WHILE, socket.write(&chunk)).await {
            Ok(Ok(count)) => written += count,
            _ => break,
        }
    }
    written
}

/// Pours from one far end while the pump runs, which hands nothing on.
async fn pour_through(bench: &mut Bench, most: usize, from_agent: bool) {
    let far = if from_agent {
        &mut bench.far_agent
    } else {
        &mut bench.far_upstream
    };
    tokio::select! {
        _ = pour(far, most) => {}
        event = bench.near.run(|_| {}) => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let mut bench = Bench::new(1000).await;
    bench.far_agent.write_all(b"question").await.expect("write");
    bench.settle().await;
    assert_eq!(&bench.near.io.from_agent[..], b"question");
    bench.near.io.to_upstream = bench.near.io.from_agent.split();
    bench.near.io.to_agent.extend_from_slice(b"answer");
    bench.settle().await;
    let mut read = [0; 8];
    bench
        .far_upstream
        .read_exact(&mut read)
        .await
        .expect("read");
    assert_eq!(&read, b"question");
    bench
        .far_agent
        .read_exact(&mut read[..6])
        .await
        .expect("read");
    assert_eq!(&read[..6], b"answer");
}

#[tokio::test]
async fn an_agent_that_does_not_read_stops_the_upstream() {
    let mut bench = Bench::new(1000).await;
    bench
        .near
        .io
        .to_agent
        .extend_from_slice(&vec![0; 64 * 1024 * 1024]);
    bench.settle().await;
    assert!(
        bench.near.io.to_agent.len() > HIGH_WATER,
        "the socket took it all"
    );
    bench.far_upstream.write_all(b"row").await.expect("write");
    assert_eq!(bench.next().await, None);
    assert_eq!(&bench.near.io.from_upstream[..], b"");
    // The other way is still open.
    bench.far_agent.write_all(b"stop!").await.expect("write");
    bench.settle().await;
    assert_eq!(&bench.near.io.from_agent[..], b"stop!");
    // It reads again: so does the pump.
    let Bench { far_agent, .. } = &mut bench;
    let mut far_agent = std::mem::replace(far_agent, pair().await.0);
    let reader = tokio::spawn(async move {
        let mut all = vec![0; 64 * 1024 * 1024];
        far_agent.read_exact(&mut all).await.map(|_| far_agent)
    });
    while bench.near.io.from_upstream.is_empty() {
        let next = bench.next().await;
        assert!(matches!(next, None | Some(Event::Progress)), "{next:?}");
    }
    bench.settle().await;
    reader.await.expect("task").expect("read");
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_agent() {
    let mut bench = Bench::new(1000).await;
    bench
        .near
        .io
        .to_upstream
        .extend_from_slice(&vec![0; 64 * 1024 * 1024]);
    bench.settle().await;
    assert!(
        bench.near.io.to_upstream.len() > HIGH_WATER,
        "the socket took it all"
    );
    bench.far_agent.write_all(b"more").await.expect("write");
    assert_eq!(bench.next().await, None);
    assert_eq!(&bench.near.io.from_agent[..], b"");
    bench.far_upstream.write_all(b"row").await.expect("write");
    bench.settle().await;
    assert_eq!(&bench.near.io.from_upstream[..], b"row");
}

#[tokio::test]
async fn what_the_session_does_not_take_is_bounded() {
    let limit = 1024 * 1024;
    let mut bench = Bench::new(limit).await;
    pour_through(&mut bench, 64 * 1024 * 1024, true).await;
    let held = bench.near.io.from_agent.len();
    // A message of the limit has to fit, and one read more may come.
    assert!(held > limit && held <= limit + READ_MOST, "{held}");
    let mut bench = Bench::new(1000).await;
    pour_through(&mut bench, 64 * 1024 * 1024, true).await;
    let held = bench.near.io.from_agent.len();
    assert!(held <= HIGH_WATER + READ_MOST, "{held}");
}

#[tokio::test]
async fn an_answer_of_any_allowed_length_fits() {
    // Whatever the agent's own limit is: else the session would wait for its end for ever.
    let mut bench = Bench::new(1000).await;
    pour_through(&mut bench, 64 * 1024 * 1024, false).await;
    let held = bench.near.io.from_upstream.len();
    let bound = LONGEST_ANSWER + READ_MOST;
    assert!(held > LONGEST_ANSWER && held <= bound, "{held}");
}

#[tokio::test]
async fn each_end_is_told_apart() {
    let mut bench = Bench::new(1000).await;
    bench.far_agent.shutdown().await.expect("shutdown");
    assert_eq!(bench.settle().await, Some(Event::AgentClosed));
    assert!(bench.near.pump.agent_closed());
    // Said once; the answers can still go down.
    bench.far_upstream.write_all(b"row").await.expect("write");
    assert_eq!(bench.settle().await, None);
    assert_eq!(&bench.near.io.from_upstream[..], b"row");
    bench.far_upstream.shutdown().await.expect("shutdown");
    assert_eq!(bench.settle().await, Some(Event::UpstreamClosed));

    let mut bench = Bench::new(1000).await;
    bench.far_agent.set_zero_linger().expect("linger");
    drop(std::mem::replace(&mut bench.far_agent, pair().await.0));
    assert_eq!(bench.settle().await, Some(Event::AgentGone));
}

#[tokio::test]
async fn the_last_words_of_an_upstream_that_takes_no_more_are_read() {
    let mut bench = Bench::new(1000).await;
    bench.far_upstream.write_all(b"FATAL").await.expect("write");
    // What it has not read makes its end a reset.
    bench.near.io.to_upstream.extend_from_slice(b"unread");
    bench.settle().await;
    bench.near.io.from_upstream.clear();
    bench.far_upstream.write_all(b"bye").await.expect("write");
    drop(std::mem::replace(&mut bench.far_upstream, pair().await.0));
    bench.near.io.to_upstream.extend_from_slice(b"more");
    assert_eq!(bench.settle().await, Some(Event::UpstreamClosed));
    assert_eq!(&bench.near.io.from_upstream[..], b"bye");
}

/// Both ends of a connection over TLS.
async fn secured() -> (Stream, client::TlsStream<TcpStream>) {
    let directory = tempfile::tempdir().expect("directory");
    let authority = Authority::open(directory.path()).expect("an authority");
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes());
    roots.add(root.expect("PEM")).expect("a root");
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let hosts = vec!["db.corp".into()];
    let server = authority.server(hosts, b"x", SystemTime::now());
    let (near, far) = pair().await;
    let name = "db.corp".try_into().expect("a name");
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(server.expect("signs"));
    let (near, far) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
    let near = Stream::AgentTls(Box::new(near.expect("accepted")));
    (near, far.expect("connected"))
}

#[tokio::test]
async fn what_tls_holds_back_goes_out_too() {
    let (mut agent, mut far) = secured().await;
    let (mut pump, mut io) = (
        Pump::new(1000, Budget::new(1 << 30, 0).share(&SessionId::random())),
        Buffers::default(),
    );
    const CHUNK: usize = 16 * 1024;
    let mut taken = 0;
    // Until the socket is full, and what TLS keeps for it as well.
    while io.to_agent.is_empty() {
        io.to_agent.resize(CHUNK, b'x');
        // What was written is no news: it only ever waits for more.
        let once = poll_fn(|cx| pump.poll(cx, &mut io, &mut agent, None));
        let _ = timeout(Duration::from_millis(2), once).await;
        taken += CHUNK - io.to_agent.len();
    }
    io.to_agent.clear();
    let moving = async {
        loop {
            poll_fn(|cx| pump.poll(cx, &mut io, &mut agent, None)).await;
        }
    };
    let mut all = vec![0; taken];
    let reading = timeout(PATIENCE, far.read_exact(&mut all));
    tokio::select! {
        () = moving => {}
        read = reading => assert!(read.expect("in time").is_ok()),
    }
}

#[tokio::test]
async fn an_agent_over_tls_may_end_with_or_without_saying_so() {
    for says_so in [true, false] {
        let (mut agent, mut far) = secured().await;
        let (mut pump, mut io) = (
            Pump::new(1000, Budget::new(1 << 30, 0).share(&SessionId::random())),
            Buffers::default(),
        );
        far.write_all(b"last").await.expect("write");
        far.flush().await.expect("flush");
        if says_so {
            far.shutdown().await.expect("shutdown");
        } else {
            far.get_mut().0.shutdown().await.expect("shutdown");
        }
        let mut next = async || poll_fn(|cx| pump.poll(cx, &mut io, &mut agent, None)).await;
        assert_eq!(next().await, Event::Progress);
        assert_eq!(next().await, Event::AgentClosed, "{says_so}");
        assert_eq!(&io.from_agent[..], b"last");
    }
}
