use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpListener;

use super::*;

fn hosts() -> Hosts {
    Hosts {
        names: vec!["db.corp".into(), "also.corp".into()],
        address: "192.0.2.1".into(),
    }
}

#[test]
fn only_what_the_policy_knows_here_is_vouched_for() {
    let chosen = |asked| {
        let chosen = hosts().choose(asked);
        chosen.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let all = ["db.corp", "also.corp", "192.0.2.1"];
    assert_eq!(chosen(None), all);
    assert_eq!(chosen(Some("also.corp")), ["also.corp"]);
    assert_eq!(chosen(Some("db.corp.")), ["db.corp"]);
    for other in ["evil.example", "corp", "x.db.corp", "192.0.2.1", ""] {
        assert_eq!(chosen(Some(other)), all, "{other}");
    }
}

/// A ClientHello that asks for `db.corp`.
fn hello() -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("db.corp").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory");
    bytes
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
    (far.expect("connect"), near.expect("accept").0)
}

/// The name that is asked for when this has come already and that comes still; what the
/// agent is sent.
async fn hears(begun: &[u8], still: &[u8]) -> (Result<String, String>, Vec<u8>) {
    let (mut far, mut near) = pair().await;
    far.write_all(still).await.expect("write");
    far.shutdown().await.expect("shutdown");
    let heard = client_hello(&mut near, begun.into()).await;
    let heard = heard
        .map(|accepted| {
            accepted
                .client_hello()
                .server_name()
                .unwrap_or_default()
                .to_owned()
        })
        .map_err(|error| error.to_string());
    drop(near);
    let mut told = Vec::new();
    // What was not read makes a reset of the end.
    let _ = far.read_to_end(&mut told).await;
    (heard, told)
}

#[tokio::test]
async fn a_client_hello_is_the_same_however_it_is_cut() {
    let hello = hello();
    for cut in (0..=hello.len()).step_by(7).chain([1, 4, 5, hello.len()]) {
        let (begun, still) = hello.split_at(cut);
        let (heard, told) = hears(begun, still).await;
        assert_eq!(
            (heard.as_deref(), told.len()),
            (Ok("db.corp"), 0),
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn half_a_client_hello_is_no_client_hello() {
    let hello = hello();
    for cut in [0, 1, 5, 6, hello.len() - 1] {
        let (heard, _) = hears(&hello[..cut], b"").await;
        assert_eq!(heard, Err("unexpected end of file".into()), "cut at {cut}");
    }
}

#[tokio::test]
async fn what_comes_behind_before_the_answer_ends_the_handshake() {
    let directory = tempfile::tempdir().expect("directory");
    let authority = Authority::open(directory.path()).expect("an authority");
    // Short enough to be read with the ClientHello, and longer.
    for behind in [&b"Q\0\0\0\x0dSELECT 1\0"[..], &[0x17; 20_000]] {
        let (mut far, near) = pair().await;
        far.shutdown().await.expect("shutdown");
        let begun = [&hello()[..], behind].concat();
        let shaken = shake(near, begun[..].into(), &authority, hosts()).await;
        assert!(matches!(shaken, Err(Failed::Agent(_))));
    }
}

#[tokio::test]
async fn garbage_is_answered_with_an_alert() {
    let mut wrong_hello = hello();
    // Its version and what follows.
    wrong_hello[9..].fill(0x55);
    let plain = b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\0\0\0\0\0";
    for garbage in [&plain[..], b"GET / HTTP/1.1\r\n\r\n", &wrong_hello] {
        let (heard, told) = hears(b"", garbage).await;
        assert!(heard.is_err(), "{heard:?}");
        // Alert (21), TLS 1.2 as all records say.
        assert_eq!(told.first(), Some(&21), "{told:?}");
    }
}
