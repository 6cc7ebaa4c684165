use std::sync::mpsc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Answers once it is let go; everybody is in one session.
struct Slow {
    release: Mutex<mpsc::Receiver<()>>,
    refusals: Mutex<Vec<String>>,
}

impl InsideHandle for Slow {
    fn outermost(&self, _: &Peer) -> Option<CgroupId> {
        Some(CgroupId(1))
    }

    fn own(&self, _: &Peer) -> Result<SessionInfo, ControlError> {
        let release = self.release.lock().expect("no test panics here");
        release.recv().expect("the test lets it go");
        Err(ControlError::Forbidden("seen".into()))
    }

    fn narrow(&self, _: &Peer, _: &Narrow) -> Result<Started, ControlError> {
        Err(ControlError::Forbidden("never wider".into()))
    }

    fn refused(&self, _: &Peer, why: &ControlError) {
        self.refusals.lock().expect("lock").push(why.to_string());
    }
}

fn served() -> (
    tempfile::TempDir,
    std::path::PathBuf,
    mpsc::Sender<()>,
    Arc<Slow>,
) {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("agents/agent.sock");
    let (let_go, release) = mpsc::channel();
    let handle = Arc::new(Slow {
        release: Mutex::new(release),
        refusals: Mutex::default(),
    });
    let listener = bind(&path).expect("bind");
    tokio::spawn(serve(listener, Arc::clone(&handle) as _));
    (dir, path, let_go, handle)
}

async fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    // Shown out: closed, or reset, perhaps after an answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_directory_is_the_daemons_own_and_no_link_to_anothers() {
    let dir = tempfile::tempdir().expect("directory");
    let socket = |name: &str| dir.path().join(name).join("agent.sock");
    make_directory(&socket("own")).expect("made");
    make_directory(&socket("own")).expect("taken");
    std::os::unix::fs::symlink(dir.path().join("own"), dir.path().join("link")).expect("symlink");
    let mut refused = vec!["link"];
    // Only root can give a directory away, as an agent of root could have.
    if geteuid().is_root() {
        std::fs::create_dir(dir.path().join("given")).expect("mkdir");
        let nobody = nix::unistd::Uid::from_raw(65534);
        nix::unistd::chown(&dir.path().join("given"), Some(nobody), None).expect("chown");
        refused.push("given");
    }
    for name in refused {
        let error = make_directory(&socket(name)).expect_err(name);
        assert!(error.to_string().contains("agent.sock"), "{error}");
    }
}

const OWN: &str = "GET /v1/self HTTP/1.1\r\nhost: x\r\n\r\n";

/// One thread serves everything here: had the work been done on it, nothing else could be.
#[tokio::test]
async fn work_for_agents_keeps_no_thread_that_serves() {
    let (_dir, path, let_go, _) = served();
    let asked = tokio::spawn(async move { ask(&path, OWN).await });
    // Others are served meanwhile: this one lets it go.
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
    let answer = timeout(PATIENCE, asked)
        .await
        .expect("in time")
        .expect("answers");
    assert!(
        answer.contains("403") && answer.contains("seen"),
        "{answer}"
    );
}

#[tokio::test]
async fn one_session_has_so_many_connections_and_gets_them_back() {
    const TOO_MANY: usize = 4;
    let (_dir, path, let_go, _) = served();
    let mut held = Vec::new();
    for _ in 0..EACH + TOO_MANY {
        held.push(UnixStream::connect(&path).await.expect("connect"));
    }
    // Whichever they are: so many are shown out, and the others stay.
    let mut shown_out = 0;
    let counted = async {
        while shown_out < TOO_MANY {
            sleep(Duration::from_millis(5)).await;
            held.retain(|stream| !is_closed(stream));
            shown_out = EACH + TOO_MANY - held.len();
        }
    };
    timeout(Duration::from_secs(3), counted)
        .await
        .expect("some are shown out");
    assert_eq!(held.len(), EACH);
    drop(held);
    let_go.send(()).expect("it will wait");
    let served = async {
        while !ask(&path, OWN).await.contains("seen") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(4), served)
        .await
        .expect("their places are free again");
}

fn is_closed(stream: &UnixStream) -> bool {
    matches!(stream.try_read(&mut [0]), Ok(0))
}

#[tokio::test]
async fn what_is_refused_is_told() {
    let (_dir, path, _, handle) = served();
    let body = r#"{"roles":["root"]}"#;
    let request = format!(
        "POST /v1/self/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(ask(&path, &request).await.contains("never wider"));
    assert_eq!(*handle.refusals.lock().expect("lock"), ["never wider"]);
}

#[tokio::test]
async fn cut_huge_and_broken_requests_are_refused() {
    let (_dir, path, _, handle) = served();
    let head = "POST /v1/self/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let huge = format!("{head}content-length: 20000\r\n\r\n{}", "x".repeat(20_000));
    let unknown = format!("{head}content-length: 24\r\n\r\n{{\"roles\":[],\"root\":true}}");
    for (request, status) in [
        (huge.as_str(), "413"),
        (unknown.as_str(), "422"),
        ("GET /v1/sessions HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("\0\x01\x02\r\n\r\n", "400"),
    ] {
        let answer = ask(&path, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{status}: {answer}"
        );
    }
    assert!(handle.refusals.lock().expect("lock").is_empty());
}
