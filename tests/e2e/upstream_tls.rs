//! TLS to the server: the certificate must prove the name that the policy gives, or nothing
//! is said to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, chown};
use portcullis_tests::{audit, process, wait};
use tempfile::TempDir;

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(60);
/// More than the server's own certificate has: `-days -1` makes one that has ended.
const VALID: &str = "30";

/// A certificate authority of the test's own.
pub(crate) struct Authority {
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::with_key(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    /// With this kind of key, in openssl's words.
    pub(crate) fn with_key(kind: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("portcullis-ca-")
            .tempdir()
            .expect("directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        let authority = Self { dir };
        let key = authority.path("ca.key");
        let certificate = authority.certificate();
        let words = ["req", "-x509", "-newkey"];
        let rest = [
            "-nodes",
            "-subj",
            "/CN=the tests",
            "-days",
            VALID,
            "-keyout",
        ];
        let files = [text(&key), "-out", text(&certificate)];
        openssl(&[&words[..], kind, &rest, &files].concat());
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// Makes the server speak TLS with a certificate for these names.
    pub(crate) fn certify(&self, stage: &Stage, names: &str, days: &str) {
        self.certify_signed(stage, names, days, &[]);
    }

    /// A certificate and its key for this subject; `more` is openssl's about the signature.
    pub(crate) fn issue(
        &self,
        subject: &str,
        names: &str,
        days: &str,
        signed: &[&str],
    ) -> [PathBuf; 2] {
        let [key, request, certificate, more] = ["s.key", "s.csr", "s.crt", "s.ext"]
            .map(|name| self.path(&format!("{subject}-{name}")));
        let words = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        let subject = format!("/CN={subject}");
        let rest = ["-nodes", "-subj", &subject, "-keyout"];
        let files = [text(&key), "-out", text(&request)];
        openssl(&[&words[..], &rest, &files].concat());
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        fs::write(&more, extensions).expect("write");
        let (ca, ca_key) = (self.certificate(), self.path("ca.key"));
        let words = ["x509", "-req", "-in", text(&request), "-CA", text(&ca)];
        let rest = ["-CAkey", text(&ca_key), "-CAcreateserial", "-days", days];
        let files = ["-extfile", text(&more), "-out", text(&certificate)];
        openssl(&[&words[..], &rest, &files, signed].concat());
        [certificate, key]
    }

    /// The same, in openssl's words about the signature.
    pub(crate) fn certify_signed(&self, stage: &Stage, names: &str, days: &str, signed: &[&str]) {
        let [certificate, key] = self.issue("server", names, days, signed);
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("chmod");
        let user = User::from_name("postgres")
            .expect("getpwnam")
            .expect("postgres");
        chown(&key, Some(user.uid), Some(user.gid)).expect("chown");
        for (setting, value) in [
            ("ssl_cert_file", text(&certificate)),
            ("ssl_key_file", text(&key)),
            ("ssl_ca_file", text(&self.certificate())),
            ("ssl", "on"),
        ] {
            stage.fact(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
        }
        stage.fact("SELECT pg_reload_conf()");
        let serial = ["x509", "-noout", "-fingerprint", "-in", text(&certificate)];
        let wanted = openssl(&serial);
        wait::until("the server to show the new certificate", LIMIT, || {
            let shown = self.shown(stage.server.port());
            Ok(shown.filter(|shown| *shown == wanted))
        })
        .expect("reload");
    }

    /// The fingerprint of the certificate that the server shows now.
    fn shown(&self, port: u16) -> Option<String> {
        let mut client = Command::new("openssl");
        let address = format!("127.0.0.1:{port}");
        client.args(["s_client", "-starttls", "postgres", "-connect", &address]);
        let shown = process::run(&mut client, "", LIMIT).ok()?;
        let file = self.path("shown");
        fs::write(&file, shown.stdout).expect("write");
        let words = ["x509", "-noout", "-fingerprint", "-in", text(&file)];
        let mut reader = Command::new("openssl");
        let read = process::run(reader.args(words), "", LIMIT).ok()?;
        (read.code() == 0).then_some(read.stdout)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

fn openssl(words: &[&str]) -> String {
    process::check(Command::new("openssl").args(words), "", LIMIT).expect("openssl")
}

/// A daemon whose policy asks for TLS with this host's name and this authority.
fn stage(host: &str, authority: &Path) -> Stage {
    let ca = format!("tls: verify-full\n    ca: {}", authority.display());
    Stage::with(|options| {
        let policy = options.policy.replace("tls: disable", &ca);
        options.policy = policy.replace("127.0.0.1:", &format!("{host}:"));
        assert!(options.policy.contains(&ca) && options.policy.contains(host));
    })
}

/// The SQLSTATE of the refusal, and the record's reason.
fn refused(stage: &Stage) -> (String, String) {
    let done = stage.python("raw_client.py", &["startup-error"], LIMIT);
    assert_eq!(done.code(), 0, "{}", done.both());
    let code: String = done.stdout.chars().take(5).collect();
    let line = stage
        .daemon
        .audit_line("the refusal", |line| audit::is(line, "connection_close"))
        .expect("record");
    assert_eq!(audit::text(&line, "blame"), "upstream", "{line}");
    let reason = audit::text(&line, "reason");
    assert!(
        !done.stdout.contains(&reason),
        "the agent was told: {}",
        done.stdout
    );
    // Nothing was said to a server that has proved nothing.
    assert_eq!(
        stage.fact("SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ro'"),
        "0"
    );
    (code, reason)
}

#[test]
fn a_server_that_proves_its_name_is_spoken_to_privately() {
    for (host, names) in [
        ("127.0.0.1", "IP:127.0.0.1"),
        ("localhost", "DNS:localhost"),
    ] {
        let authority = Authority::new();
        let stage = stage(host, &authority.certificate());
        authority.certify(&stage, names, VALID);
        stage.assert_works();
        let mut psql = stage.open_psql();
        psql.query("SELECT 1").expect("works");
        let private = "SELECT bool_and(ssl.ssl) FROM pg_stat_ssl ssl JOIN pg_stat_activity \
                       USING (pid) WHERE usename = 'agent_ro'";
        assert_eq!(stage.fact(private), "t", "{host}");
    }
}

#[test]
fn a_server_with_another_name_is_refused() {
    for (host, names) in [
        ("127.0.0.1", "IP:127.0.0.2,DNS:localhost"),
        ("localhost", "DNS:localhost.example,IP:127.0.0.1"),
    ] {
        let authority = Authority::new();
        let stage = stage(host, &authority.certificate());
        authority.certify(&stage, names, VALID);
        let (code, reason) = refused(&stage);
        assert_eq!(code, "08P01");
        assert!(
            reason.contains("certificate not valid for name"),
            "{reason}"
        );
    }
}

#[test]
fn a_certificate_that_has_ended_is_refused() {
    let authority = Authority::new();
    let stage = stage("127.0.0.1", &authority.certificate());
    authority.certify(&stage, "IP:127.0.0.1", "-1");
    let (code, reason) = refused(&stage);
    assert_eq!(code, "08P01");
    assert!(reason.contains("Expired"), "{reason}");
}

#[test]
fn an_unknown_authority_is_refused_until_the_file_names_it() {
    let (ours, other) = (Authority::new(), Authority::new());
    let stage = stage("127.0.0.1", &ours.certificate());
    other.certify(&stage, "IP:127.0.0.1", VALID);
    let (code, reason) = refused(&stage);
    assert_eq!(code, "08P01");
    assert!(reason.contains("certificate"), "{reason}");
    // A rotated authority counts at once.
    fs::copy(other.certificate(), ours.certificate()).expect("copy");
    stage.assert_works();
}

#[test]
fn a_server_without_tls_is_refused() {
    let authority = Authority::new();
    let stage = stage("127.0.0.1", &authority.certificate());
    let (code, reason) = refused(&stage);
    assert_eq!(code, "08P01");
    assert!(reason.contains("has no TLS"), "{reason}");
}

#[test]
fn a_query_is_cancelled_privately_too() {
    let authority = Authority::new();
    let ca = format!(
        "tls: verify-full\n    ca: {}",
        authority.certificate().display()
    );
    let stage = Stage::with(|options| {
        let rule = "\n  - {id: wait, role: analyst, allow: [sql.call], on: ['shop/pg_catalog.pg_sleep']}\n";
        options.policy = options.policy.replace("tls: disable", &ca) + rule;
    });
    authority.certify(&stage, "IP:127.0.0.1", VALID);
    let done = stage.python("psycopg_agent.py", &["cancel"], LIMIT);
    assert_eq!(done.stdout.trim(), "57014", "{}", done.stderr);
    let line = stage
        .daemon
        .audit_line("the request", |line| audit::is(line, "cancel_request"))
        .expect("record");
    let open = stage
        .daemon
        .audit_line("the connection", |line| audit::is(line, "connection_open"))
        .expect("record");
    let cancelled = audit::text(&line, "cancels");
    assert_eq!(cancelled, audit::text(&open, "connection"));
}
