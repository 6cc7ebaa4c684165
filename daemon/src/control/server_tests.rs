use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::*;

/// A daemon whose callers may ask a number of times, and whose list takes its time.
struct Dummy {
    may_ask: AtomicUsize,
    started: AtomicUsize,
    refusals: Mutex<Vec<String>>,
    release: Mutex<mpsc::Receiver<()>>,
}

impl SessionsHandle for Dummy {
    fn may_ask(&self, _: Peer) -> Result<(), ControlError> {
        let left = self.may_ask.load(Ordering::SeqCst);
        if left == 0 {
            return Err(ControlError::Forbidden("inside by now".into()));
        }
        self.may_ask.store(left - 1, Ordering::SeqCst);
        Ok(())
    }

    fn identify<'a>(&'a self, _: &'a Claim) -> Waiting<'a, Principal> {
        Box::pin(async { Ok(Principal::named("analyst")) })
    }

    fn start(&self, _: Peer, _: Principal, _: &StartSession) -> Result<Started, ControlError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        Err(ControlError::Unavailable("started".into()))
    }

    fn refused(&self, _: Peer, asked: &Asked<'_>, why: &ControlError) {
        let line = format!("{} {:?} {why}", asked.name(), asked.claim());
        self.refusals.lock().expect("lock").push(line);
    }

    fn renew(&self, _: Peer, _: &str, _: &Principal) -> Result<Renewed, ControlError> {
        Err(ControlError::Invalid("another principal".into()))
    }

    fn revoke(&self, _: Peer, _: &str, _: bool) -> Result<(), ControlError> {
        Ok(())
    }

    fn list(&self) -> Vec<SessionInfo> {
        let release = self.release.lock().expect("lock");
        release.recv().expect("the test lets it go");
        Vec::new()
    }

    fn show(&self, _: &str) -> Option<SessionInfo> {
        None
    }

    fn status(&self) -> Status {
        unreachable!("no test asks for it")
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

struct Served {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    handle: Arc<Dummy>,
    let_go: mpsc::Sender<()>,
}

/// Callers may ask this many times.
fn served(may_ask: usize) -> Served {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("control.sock");
    let (let_go, release) = mpsc::channel();
    let handle = Arc::new(Dummy {
        may_ask: AtomicUsize::new(may_ask),
        started: AtomicUsize::new(0),
        refusals: Mutex::default(),
        release: Mutex::new(release),
    });
    let listener = bind(&path, None).expect("bind");
    tokio::spawn(serve(listener, Arc::clone(&handle) as _));
    Served {
        _dir: dir,
        path,
        handle,
        let_go,
    }
}

async fn ask(path: &std::path::Path, line: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("connect");
    let request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

const START: &str = r#"{"who":{"as":"analyst"}}"#;

#[tokio::test]
async fn the_caller_is_looked_at_again_right_before_it_is_moved() {
    let twice = served(2);
    let answer = ask(&twice.path, "POST /v1/sessions", START).await;
    assert!(answer.contains("started"), "{answer}");
    let once = served(1);
    let answer = ask(&once.path, "POST /v1/sessions", START).await;
    assert!(
        answer.contains("403") && answer.contains("inside by now"),
        "{answer}"
    );
    assert_eq!(once.handle.started.load(Ordering::SeqCst), 0);
    let told = once.handle.refusals.lock().expect("lock").clone();
    assert_eq!(told, ["session Some(\"analyst\") inside by now"]);
}

#[tokio::test]
async fn refused_renewals_are_told_and_a_token_is_not() {
    let served = served(9);
    let body = r#"{"token":"abc.def.ghi"}"#;
    let answer = ask(&served.path, "POST /v1/sessions/s-1/renew", body).await;
    assert!(answer.contains("another principal"), "{answer}");
    let told = served.handle.refusals.lock().expect("lock").clone();
    assert_eq!(told, ["renewal None another principal"]);
}

/// One thread serves everything here: had the work been done on it, nothing else could be.
#[tokio::test]
async fn a_look_at_all_sessions_keeps_no_thread_that_serves() {
    let Served {
        _dir,
        path,
        let_go,
        handle: _handle,
    } = served(9);
    let asked = tokio::spawn(async move { ask(&path, "GET /v1/sessions", "").await });
    // Were this thread held, only this would free it.
    let late = let_go.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        // Nobody waits any more if all went well.
        let _ = late.send(());
    });
    let start = std::time::Instant::now();
    sleep(Duration::from_millis(50)).await;
    let waited = start.elapsed();
    assert!(
        waited < Duration::from_secs(1),
        "the thread that serves was held: {waited:?}"
    );
    let_go.send(()).expect("it waits");
    let answer = timeout(Duration::from_secs(5), asked)
        .await
        .expect("in time");
    assert!(answer.expect("answers").contains("200 OK"));
}
