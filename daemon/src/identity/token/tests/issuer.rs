//! The verifier against an issuer that answers by HTTP, well or badly.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::stage::*;
use crate::identity::token::source::Source;
use crate::identity::token::{IssuerSettings, TokenRefusal, Verifier};
use crate::types::{Principal, Secret};

/// What it answers, whole, by path; another path is closed on.
#[derive(Clone, Default)]
struct Idp {
    url: String,
    answers: Arc<Mutex<HashMap<&'static str, Vec<u8>>>>,
    calls: Arc<AtomicUsize>,
    /// Connections that stay open after their answer.
    held: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

const DOCUMENT: &str = "/.well-known/openid-configuration";

impl Idp {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("bound").port();
        let idp = Self {
            url: format!("http://127.0.0.1:{port}"),
            ..Self::default()
        };
        let serving = idp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = serving.serve(stream).await;
            }
        });
        idp.document(json!({"issuer": idp.url, "jwks_uri": format!("{}/jwks", idp.url)}));
        idp.keys("", &jwks());
        idp
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = self
            .answers
            .lock()
            .expect("lock")
            .get(path.as_str())
            .cloned();
        stream.write_all(&answer.unwrap_or_default()).await?;
        if let Some(held) = &mut *self.held.lock().expect("lock") {
            held.push(stream);
        }
        Ok(())
    }

    /// From now on: the head of an answer, and then nothing more.
    fn hold(&self, path: &'static str) {
        self.raw(
            path,
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec(),
        );
        *self.held.lock().expect("lock") = Some(Vec::new());
    }

    fn put(&self, path: &'static str, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n{body}");
        self.raw(path, answer.into_bytes());
    }

    fn raw(&self, path: &'static str, answer: Vec<u8>) {
        self.answers.lock().expect("lock").insert(path, answer);
    }

    fn document(&self, document: Value) {
        self.put(DOCUMENT, "", &document.to_string());
    }

    fn keys(&self, headers: &str, keys: &Value) {
        self.put("/jwks", headers, &keys.to_string());
    }

    fn silence(&self) {
        self.answers.lock().expect("lock").clear();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn settings(&self) -> IssuerSettings {
        IssuerSettings {
            issuer: self.url.clone(),
            ..settings()
        }
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(vec![self.settings()]).expect("settings")
    }

    fn token(&self, signer: &Signer, alg: &str, kid: &str) -> String {
        token(
            signer,
            &header(alg, kid),
            &claims_with(json!({"iss": self.url})),
        )
    }

    fn good(&self) -> String {
        self.token(&RSA, "RS256", "rsa")
    }
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Principal, TokenRefusal> {
    verifier.verify(&Secret::new(token.into()), NOW).await
}

fn pass(verifier: &mut Verifier, seconds: u64) {
    for issuer in verifier.issuers.values_mut() {
        if let Source::Issuer(asked) = &mut issuer.source {
            asked.pass(Duration::from_secs(seconds));
        }
    }
}

async fn no_keys(verifier: &Verifier, token: &str) -> String {
    match verify(verifier, token).await {
        Err(TokenRefusal::NoKeys(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_kept() {
    let idp = Idp::start().await;
    let verifier = idp.verifier();
    for _ in 0..3 {
        verify(&verifier, &idp.good()).await.expect("genuine");
    }
    assert_eq!(idp.calls(), 2);
}

#[tokio::test]
async fn an_issuer_with_a_slash_at_its_end_is_asked_at_the_same_place() {
    let idp = Idp::start().await;
    let issuer = format!("{}/", idp.url);
    idp.document(json!({"issuer": issuer, "jwks_uri": format!("{}/jwks", idp.url)}));
    let mut settings = idp.settings();
    settings.issuer = issuer.clone();
    let verifier = Verifier::new(vec![settings]).expect("settings");
    let token = token(
        &RSA,
        &header("RS256", "rsa"),
        &claims_with(json!({"iss": issuer})),
    );
    verify(&verifier, &token).await.expect("genuine");
    let refused = verify(&verifier, &idp.good()).await;
    assert_eq!(refused.err(), Some(TokenRefusal::UnknownIssuer));
}

#[tokio::test]
async fn a_rotated_key_is_found_at_once_and_a_forged_one_does_not_flood_the_issuer() {
    let idp = Idp::start().await;
    let verifier = idp.verifier();
    verify(&verifier, &idp.good()).await.expect("genuine");
    // Another key, of another type.
    idp.keys(
        "",
        &json!({"keys": [P256.jwk("new", json!({"alg": "ES256"}))]}),
    );
    let rotated = idp.token(&P256, "ES256", "new");
    verify(&verifier, &rotated).await.expect("the new key");
    let old = verify(&verifier, &idp.good()).await;
    assert_eq!(old.err(), Some(TokenRefusal::UnknownKey));
    let calls = idp.calls();
    for kid in ["a", "b", "c", "d"] {
        let forged = idp.token(&STRANGER, "RS256", kid);
        let refused = verify(&verifier, &forged).await;
        assert_eq!(refused.err(), Some(TokenRefusal::UnknownKey));
    }
    assert_eq!(idp.calls(), calls);
    verify(&verifier, &rotated).await.expect("still good");
}

#[tokio::test]
async fn a_token_that_names_another_issuer_makes_us_call_nobody() {
    let (idp, evil) = (Idp::start().await, Idp::start().await);
    let verifier = idp.verifier();
    let refused = verify(&verifier, &evil.good()).await;
    assert_eq!(refused.err(), Some(TokenRefusal::UnknownIssuer));
    for (alg, reason) in [
        ("none", TokenRefusal::NotSigned),
        ("HS256", TokenRefusal::SharedSecret),
    ] {
        let refused = verify(&verifier, &idp.token(&RSA, alg, "rsa")).await;
        assert_eq!(refused.err(), Some(reason));
    }
    assert_eq!((idp.calls(), evil.calls()), (0, 0));
}

#[tokio::test]
async fn the_last_keys_serve_while_the_issuer_is_silent() {
    let idp = Idp::start().await;
    let mut settings = idp.settings();
    settings.keep_keys = Duration::from_secs(7200);
    let mut verifier = Verifier::new(vec![settings]).expect("settings");
    idp.keys("cache-control: max-age=600\r\n", &jwks());
    verify(&verifier, &idp.good()).await.expect("genuine");
    idp.silence();
    pass(&mut verifier, 601);
    verify(&verifier, &idp.good()).await.expect("the last keys");
    assert_eq!(idp.calls(), 3, "asked again, in vain");
    let unknown = no_keys(&verifier, &idp.token(&P256, "ES256", "new")).await;
    assert!(unknown.contains("127.0.0.1"), "{unknown}");
    pass(&mut verifier, 7200);
    no_keys(&verifier, &idp.good()).await;
    idp.document(json!({"issuer": idp.url, "jwks_uri": format!("{}/jwks", idp.url)}));
    idp.keys("", &jwks());
    pass(&mut verifier, 10);
    verify(&verifier, &idp.good()).await.expect("back again");
}

#[tokio::test]
async fn a_bad_answer_is_no_key_set() {
    let idp = Idp::start().await;
    let jwks_uri = format!("{}/jwks", idp.url);
    let other = json!({"issuer": "https://evil.example", "jwks_uri": jwks_uri});
    let slash = json!({"issuer": format!("{}/", idp.url), "jwks_uri": jwks_uri});
    let nowhere = json!({"issuer": idp.url});
    let far = json!({"issuer": idp.url, "jwks_uri": "http://198.51.100.1/jwks"});
    let file = json!({"issuer": idp.url, "jwks_uri": "file:///etc/passwd"});
    for (document, said) in [
        (other, "another issuer"),
        (slash, "another issuer"),
        (nowhere, "no `jwks_uri`"),
        (far, "must be https"),
        (file, "is not a URL"),
        (json!([]), "not a JSON object"),
    ] {
        idp.document(document);
        let why = no_keys(&idp.verifier(), &idp.good()).await;
        assert!(why.contains(said), "{why}");
    }
    idp.document(json!({"issuer": idp.url, "jwks_uri": jwks_uri}));
    let mut long = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\":[\"".to_vec();
    long.extend(std::iter::repeat_n(b'x', 10 << 20));
    for (answer, said) in [
        (long, "longer than 1048576 bytes"),
        (
            b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "status 500",
        ),
        (
            b"HTTP/1.1 302 Found\r\nlocation: https://evil.example\r\ncontent-length: 0\r\n\r\n"
                .to_vec(),
            "status 302",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            "no list of `keys`",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n<a>".to_vec(),
            "not a JSON object",
        ),
        (b"".to_vec(), "does not speak HTTP"),
    ] {
        idp.raw("/jwks", answer);
        let why = no_keys(&idp.verifier(), &idp.good()).await;
        assert!(why.contains(said), "{why}");
    }
}

#[tokio::test]
async fn a_slow_issuer_is_given_up_and_not_waited_for_again_at_once() {
    let idp = Idp::start().await;
    let verifier = idp.verifier();
    let start = std::time::Instant::now();
    idp.hold(DOCUMENT);
    let why = no_keys(&verifier, &idp.good()).await;
    assert!(why.contains("did not answer within 5s"), "{why}");
    no_keys(&verifier, &idp.good()).await;
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(9), "{waited:?}");
}

#[tokio::test]
async fn many_tokens_at_once_ask_once() {
    let idp = Idp::start().await;
    let verifier = Arc::new(idp.verifier());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (verifier, token) = (Arc::clone(&verifier), idp.good());
        tasks.spawn(async move { verify(&verifier, &token).await.map(|_| ()) });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("genuine");
    }
    assert_eq!(idp.calls(), 2);
}

#[tokio::test]
async fn a_key_file_must_be_out_of_others_reach() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("jwks.json");
    let mut settings = settings();
    settings.jwks_file = Some(file.clone());
    let verifier = Verifier::new(vec![settings]).expect("settings");
    assert!(no_keys(&verifier, &good()).await.contains("No such file"));
    std::fs::write(&file, jwks().to_string()).expect("writes");
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, permissions).expect("chmod");
    };
    mode(0o666);
    assert!(
        no_keys(&verifier, &good())
            .await
            .contains("others than root")
    );
    mode(0o644);
    verify(&verifier, &good()).await.expect("genuine");
    std::fs::write(&file, json!({"keys": []}).to_string()).expect("writes");
    let refused = verify(&verifier, &good()).await;
    assert_eq!(refused.err(), Some(TokenRefusal::UnknownKey));
    std::fs::write(&file, " ".repeat((1 << 20) + 1)).expect("writes");
    assert!(
        no_keys(&verifier, &good())
            .await
            .contains("longer than 1 MiB")
    );
}
