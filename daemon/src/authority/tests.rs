use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use tempfile::TempDir;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ALPN: &[u8] = b"test";

/// A directory that does not exist yet, in one that does.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    fn directory(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory().join("authority.pem")
    }

    fn open(&self) -> Authority {
        Kept::make_directory(&self.directory()).expect("a directory");
        Authority::open(&self.directory()).expect("an authority")
    }

    /// What is wrong with the authority that is there.
    fn problem(&self) -> String {
        match Authority::open(&self.directory()) {
            Ok(_) => "nothing".into(),
            Err(error) => error.to_string(),
        }
    }
}

fn hosts(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// What the client says to a server with these settings.
fn handshake(
    authority: &Authority,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("client");
    let mut server = ServerConnection::new(server).expect("server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        server.read_tls(&mut &bytes[..]).expect("memory");
        server
            .process_new_packets()
            .expect("the server has no objection");
        bytes.clear();
        server.write_tls(&mut bytes).expect("memory");
        client.read_tls(&mut &bytes[..]).expect("memory");
        client.process_new_packets()?;
    }
    assert_eq!(server.alpn_protocol(), Some(ALPN));
    Ok(())
}

#[test]
fn it_is_made_once_for_root_only_and_stays() {
    let place = Place::new();
    let first = place.open();
    assert_eq!(place.open().certificate(), first.certificate());
    let mode = |path| fs::metadata(path).expect("there").mode() & 0o7777;
    assert_eq!(
        (mode(place.file()), mode(place.directory())),
        (0o600, 0o700)
    );
    assert_eq!(
        fs::read_dir(place.directory()).expect("list").count(),
        1,
        "nothing else is left"
    );
    let text = fs::read_to_string(place.file()).expect("read");
    assert!(text.ends_with(first.certificate()), "{text}");
    assert!(!first.certificate().contains("PRIVATE"));
}

#[test]
fn a_doubted_one_is_not_taken_until_it_has_gone_or_somebody_says_so() {
    let place = Place::new();
    let first = place.open();
    for _ in 0..2 {
        Kept::doubt(&place.directory()).expect("doubted");
        assert!(place.problem().contains("before agents"));
        // By nobody else neither, who would tell others to trust it.
        assert!(Kept::load(&place.directory()).is_err());
    }
    let mark = place.directory().join("authority.pem.doubted");
    fs::remove_file(&mark).expect("unlink");
    assert_eq!(place.open().certificate(), first.certificate());
    Kept::doubt(&place.directory()).expect("doubted");
    fs::remove_file(place.file()).expect("unlink");
    assert_ne!(place.open().certificate(), first.certificate());
    assert!(!mark.exists(), "it was said of the old one");
}

#[test]
fn a_new_one_is_made_where_there_is_none_and_nothing_of_a_key_stays_beside_it() {
    let place = Place::new();
    Kept::make_directory(&place.directory()).expect("a directory");
    let left = place.directory().join(".authority.pem.0123456789abcdef");
    fs::write(&left, "of one that was killed").expect("write");
    let made = Authority::make(&place.directory()).expect("a new one");
    assert_eq!(place.open().certificate(), made.certificate());
    assert_eq!(fs::read_dir(place.directory()).expect("list").count(), 1);
    // Somebody was faster: it can't be nobody else's.
    assert!(Authority::make(&place.directory()).is_err());
    assert!(place.problem().contains("before agents"));
}

#[test]
fn all_who_start_at_once_have_the_same() {
    let place = Place::new();
    let open = || place.open().certificate().to_owned();
    let all: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads
            .into_iter()
            .map(|one| one.join().expect("opens"))
            .collect()
    });
    assert!(all.iter().all(|one| *one == all[0]));
    assert_eq!(fs::read_dir(place.directory()).expect("list").count(), 1);
}

#[test]
fn it_can_sign_for_hosts_and_for_no_other_authority() {
    let place = Place::new();
    let text = place.open().certificate().to_owned();
    let der = CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
    let (_, read) = x509_parser::parse_x509_certificate(&der).expect("X.509");
    let basic = read.basic_constraints().expect("one").expect("there");
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = read.key_usage().expect("one").expect("there");
    assert!(usage.critical);
    // keyCertSign and nothing else (RFC 5280, 4.2.1.3).
    assert_eq!(usage.value.flags, 1 << 5);
    let years = read
        .validity()
        .time_to_expiration()
        .expect("valid")
        .whole_days()
        / 365;
    assert_eq!(years, 9, "ten, less a moment");
}

#[test]
fn a_key_that_others_could_have_read_is_not_used() {
    let place = Place::new();
    place.open();
    for mode in [0o640, 0o604, 0o660, 0o622] {
        fs::set_permissions(place.file(), Permissions::from_mode(mode)).expect("chmod");
        let problem = place.problem();
        assert!(problem.contains(&format!("mode {mode:04o}")), "{problem}");
    }
    fs::set_permissions(place.file(), Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(place.problem(), "nothing");
    for mode in [0o720, 0o702, 0o777] {
        fs::set_permissions(place.directory(), Permissions::from_mode(mode)).expect("chmod");
        assert!(place.problem().contains("a directory"), "{mode:o}");
    }
}

/// Needs root, as the daemon does: only root can give a file away.
#[test]
fn a_key_of_somebody_else_is_not_used() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: not tried");
        return;
    }
    let place = Place::new();
    place.open();
    let nobody = Some(nix::unistd::Uid::from_raw(65534));
    nix::unistd::chown(&place.file(), nobody, None).expect("chown");
    assert!(
        place.problem().contains("owner 65534"),
        "{}",
        place.problem()
    );
    nix::unistd::chown(&place.file(), Some(nix::unistd::Uid::from_raw(0)), None).expect("chown");
    nix::unistd::chown(&place.directory(), nobody, None).expect("chown");
    assert!(
        place.problem().contains("owner 65534"),
        "{}",
        place.problem()
    );
}

#[test]
fn what_is_no_plain_file_is_not_used_and_not_waited_for() {
    let elsewhere = Place::new();
    elsewhere.open();
    for make in [
        |path: &Path, elsewhere: &Path| symlink(elsewhere, path).expect("symlink"),
        |path: &Path, _: &Path| fs::create_dir(path).expect("mkdir"),
        |path: &Path, _: &Path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
        },
    ] {
        let place = Place::new();
        place.open();
        fs::remove_file(place.file()).expect("rm");
        make(&place.file(), &elsewhere.file());
        assert!(
            place.problem().starts_with("the authority: "),
            "{}",
            place.problem()
        );
    }
}

/// Key and certificate with other contents than ours.
fn made(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    let certificate = params.self_signed(&key).expect("signed");
    (key.serialize_pem(), certificate.pem())
}

#[test]
fn a_broken_file_is_refused_and_never_replaced() {
    let place = Place::new();
    place.open();
    let good = fs::read_to_string(place.file()).expect("read");
    let (other_key, other) = made(|_| ());
    let (plain_key, plain) = made(|params| params.is_ca = IsCa::NoCa);
    let (ended_key, ended) = made(|params| {
        params.not_before = (SystemTime::now() - DAY * 20).into();
        params.not_after = (SystemTime::now() - DAY).into();
    });
    let (mute_key, mute) = made(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let ours = |part: usize| {
        let (key, certificate) = good.split_at(good.find("-----BEGIN CERT").expect("two parts"));
        [key, certificate][part].to_owned()
    };
    for (text, said) in [
        (String::new(), "no private key"),
        ("x".repeat(200_000), "no private key"),
        (good[..good.len() / 2].to_owned(), "no certificate"),
        (ours(0), "no certificate"),
        (ours(1), "no private key"),
        (ours(0) + &other, "not of this key"),
        (other_key + &ours(1), "not of this key"),
        (plain_key + &plain, "not an authority's"),
        (mute_key + &mute, "not an authority's"),
        (ended_key + &ended, "has ended"),
    ] {
        fs::write(place.file(), &text).expect("write");
        let problem = place.problem();
        assert!(problem.contains(said), "{said}: {problem}");
        assert_eq!(fs::read_to_string(place.file()).expect("read"), text);
    }
    fs::write(place.file(), good).expect("write");
    assert_eq!(place.problem(), "nothing");
}

#[test]
fn a_certificate_proves_its_names_and_no_others() {
    let place = Place::new();
    let authority = place.open();
    let now = SystemTime::now();
    let server = |names: &[&str]| authority.server(hosts(names), ALPN, now).expect("signs");
    let long = format!("{}.corp", "a".repeat(63));
    let all = [
        "db.corp",
        "under_score.corp",
        "192.0.2.1",
        "2001:db8::1",
        &long,
    ];
    for name in all {
        assert_eq!(
            handshake(&authority, server(&[name]), name),
            Ok(()),
            "{name}"
        );
        assert_eq!(handshake(&authority, server(&all), name), Ok(()), "{name}");
    }
    for name in [
        "db.corp.evil",
        "x.db.corp",
        "corp",
        "192.0.2.2",
        "2001:db8::2",
    ] {
        assert!(handshake(&authority, server(&all), name).is_err(), "{name}");
    }
    let stranger = Place::new().open();
    assert!(handshake(&stranger, server(&["db.corp"]), "db.corp").is_err());
    assert!(authority.server(hosts(&["ümlaut"]), ALPN, now).is_err());
}

#[test]
fn certificates_are_kept_until_shortly_before_they_end() {
    let authority = Place::new().open();
    let now = SystemTime::now();
    let at = |now, names: &[&str]| authority.server(hosts(names), ALPN, now).expect("signs");
    let first = at(now, &["a", "b"]);
    for (later, names, same) in [
        (now, &["b", "a", "b"][..], true),
        (now, &["a"], false),
        (now + DAY * 4, &["a", "b"], true),
        (now - Duration::from_secs(7200), &["a", "b"], false),
    ] {
        assert_eq!(Arc::ptr_eq(&first, &at(later, names)), same, "{names:?}");
    }
    let first = at(now, &["c"]);
    assert!(!Arc::ptr_eq(&first, &at(now + DAY * 6, &["c"])), "renewed");
}

#[test]
fn so_many_certificates_are_kept_and_none_outlives_the_authority() {
    let authority = Place::new().open();
    let now = SystemTime::now();
    let kept = || authority.lock().len();
    let first = authority
        .server(hosts(&["first"]), ALPN, now)
        .expect("signs");
    for number in 0..MOST {
        let later = now + Duration::from_secs(1);
        let host: IpAddr = IpAddr::from(u32::try_from(number).expect("small").to_be_bytes());
        authority
            .server(hosts(&[&host.to_string()]), ALPN, later)
            .expect("signs");
    }
    assert_eq!(kept(), MOST);
    let again = authority
        .server(hosts(&["first"]), ALPN, now)
        .expect("signs");
    assert!(!Arc::ptr_eq(&first, &again), "the oldest went");
    let late = authority.ends - DAY;
    authority
        .server(hosts(&["late"]), ALPN, late)
        .expect("signs");
    let latest = authority.lock().values().map(|leaf| leaf.ends).max();
    assert_eq!(latest, Some(authority.ends));
}

#[test]
fn everybody_may_read_what_is_published_and_it_is_replaced_whole() {
    let place = Place::new();
    let authority = place.open();
    let path = place.0.path().join("authority.crt");
    fs::write(&path, "old").expect("write");
    authority.publish(&path).expect("published");
    assert_eq!(
        fs::read_to_string(&path).expect("read"),
        authority.certificate()
    );
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(place.0.path()).expect("list").count(), 2);
}
