use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each connection with these bytes, then keeps it open or not.
async fn peer(answer: Vec<u8>, stays: bool) -> (Uri, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("bound").port();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = vec![0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&answer).await;
            if stays {
                open.push(stream);
            }
        }
    });
    let url = format!("http://127.0.0.1:{port}/a?b=c");
    (url.parse().expect("a URL"), calls)
}

fn client() -> Client {
    Client::new(Settings {
        patience: Duration::from_secs(2),
        longest: 1000,
        ..Settings::default()
    })
}

#[tokio::test]
async fn an_answer_is_read_to_its_end() {
    let (url, _) = peer(
        b"HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nhi".into(),
        true,
    )
    .await;
    let answer = client().get(&url).await.expect("answers");
    assert_eq!((answer.status, &answer.body[..]), (404, &b"hi"[..]));
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("bound").port();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a call");
        let mut got = Vec::new();
        while !got.ends_with(b"{}") {
            stream.read_buf(&mut got).await.expect("reads");
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .expect("writes");
        String::from_utf8(got).expect("text").to_lowercase()
    });
    let request = Request::put(format!("http://127.0.0.1:{port}/v1/x?list=true"))
        .header("X-Vault-Token", "t0k")
        .body(Bytes::from_static(b"{}"))
        .expect("a request");
    let answer = client().call(request).await.expect("answers");
    assert_eq!(answer.status, 204);
    let seen = seen.await.expect("seen");
    assert!(
        seen.starts_with("put /v1/x?list=true http/1.1\r\n"),
        "{seen}"
    );
    for line in [
        format!("host: 127.0.0.1:{port}\r\n"),
        "x-vault-token: t0k\r\n".into(),
        "content-length: 2\r\n".into(),
    ] {
        assert!(seen.contains(&line), "{line} in {seen}");
    }
}

#[tokio::test]
async fn a_long_answer_is_given_up_whether_it_says_its_length_or_not() {
    let said = format!("HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n");
    let mut unsaid = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    unsaid.extend(std::iter::repeat_n(b'x', 10_000_000));
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    head.extend(std::iter::repeat_n(b'x', 10_000_000));
    for (answer, wanted) in [(said.into_bytes(), true), (unsaid, true), (head, false)] {
        let (url, _) = peer(answer, true).await;
        let error = client().get(&url).await.expect_err("too long");
        let too_long = matches!(error, WebError::TooLong { longest: 1000, .. });
        assert_eq!(too_long, wanted, "{error}");
        assert!(
            matches!(error, WebError::TooLong { .. } | WebError::Http { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_slow_peer_is_given_up() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"] {
        let (url, _) = peer(answer.into(), true).await;
        let client = Client::new(Settings {
            patience: Duration::from_millis(200),
            ..Settings::default()
        });
        let error = client.get(&url).await.expect_err("too slow");
        assert!(matches!(error, WebError::TooSlow { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (there, reached) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into(), true).await;
    let head = format!("HTTP/1.1 302 Found\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n");
    let (url, _) = peer(head.into_bytes(), true).await;
    let answer = client().get(&url).await.expect("answers");
    assert_eq!(answer.status, 302);
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plain_http_stays_on_this_host() {
    for url in [
        "http://198.51.100.1/",
        "http://127.0.0.1.example/",
        "http://user:hunter2@127.0.0.1/",
        "ftp://127.0.0.1/",
        "/etc/passwd",
    ] {
        let url: Uri = url.parse().expect("a URL");
        let error = client().get(&url).await.expect_err("refused");
        assert!(matches!(error, WebError::Url { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_http_or_no_tls_is_an_error() {
    let (url, _) = peer(b"SSH-2.0-x\r\n".into(), false).await;
    let error = client().get(&url).await.expect_err("not HTTP");
    assert!(matches!(error, WebError::Http { .. }), "{error}");
    let mut parts = url.into_parts();
    parts.scheme = Some(hyper::http::uri::Scheme::HTTPS);
    let url = Uri::from_parts(parts).expect("a URL");
    let file = tempfile::NamedTempFile::new().expect("file");
    let client = Client::new(Settings {
        ca: Some(file.path().into()),
        ..Settings::default()
    });
    let error = client.get(&url).await.expect_err("no authority");
    assert!(matches!(error, WebError::Roots(_)), "{error}");
}
