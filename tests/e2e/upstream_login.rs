//! Logging in at the server by each method of pg_hba.conf: what the policy lists works, and
//! nothing else is told to a server that asks for it.

use std::fs;
use std::time::Duration;

use portcullis_tests::audit;
use portcullis_tests::daemon::Options;
use portcullis_tests::shop::SECRETS;

use crate::stage::Stage;
use crate::upstream_tls::Authority;

const LIMIT: Duration = Duration::from_secs(60);
const VALID: &str = "30";
const NAMES: &str = "IP:127.0.0.1";

/// Puts lines into the service, in place of `tls: disable`.
fn say(options: &mut Options, lines: &[&str]) {
    let policy = options
        .policy
        .replace("tls: disable", &lines.join("\n    "));
    assert_ne!(policy, options.policy);
    options.policy = policy;
}

/// A service without TLS whose policy says this of `auth`.
fn plain(auth: &str) -> Stage {
    Stage::with(|options| say(options, &["tls: disable", auth]))
}

/// The same over TLS, with a certificate for the server.
fn over_tls(authority: &Authority, lines: &[&str]) -> Stage {
    let ca = format!("ca: {}", authority.certificate().display());
    let stage = Stage::with(|options| say(options, &[&[ca.as_str()], lines].concat()));
    authority.certify(&stage, NAMES, VALID);
    stage
}

/// The agent's name at the server gets in by this method alone.
fn admit(stage: &Stage, method: &str) {
    let rule = format!("{method}\n").replace("AGENT", "all agent_ro 127.0.0.1/32");
    stage.server.admit(&rule).expect("pg_hba.conf");
}

/// The gate does not log in, says this about it, and tells the agent nothing of it.
fn refused(stage: &Stage, code: &str, why: &str) {
    let done = stage.python("raw_client.py", &["startup-error"], LIMIT);
    assert_eq!(done.code(), 0, "{}", done.both());
    assert!(done.stdout.starts_with(code), "{}", done.stdout);
    let line = stage.daemon.audit_line(why, |line| {
        audit::is(line, "connection_close") && audit::text(line, "reason").contains(why)
    });
    let reason = audit::text(&line.expect("record"), "reason");
    assert!(!done.stdout.contains(&reason), "{}", done.stdout);
    let log = stage.daemon.log();
    assert!(log.contains(why), "the operator reads it: {log}");
    for text in [done.both(), reason, log] {
        assert!(!text.contains(stage.server.agent_password()), "{text}");
    }
}

#[test]
fn scram_is_bound_to_the_servers_certificate_whatever_signed_it() {
    let rsa = ["rsa:2048"];
    let pss = |hash| {
        let padding = ["-sigopt", "rsa_padding_mode:pss"];
        [
            &[hash],
            &padding[..],
            &["-sigopt", "rsa_pss_saltlen:digest"],
        ]
        .concat()
    };
    let cases = [
        (Authority::new(), vec!["-sha256"]),
        (Authority::new(), vec!["-sha384"]),
        (Authority::with_key(&rsa), vec!["-sha512"]),
        (Authority::with_key(&rsa), pss("-sha256")),
        (Authority::with_key(&rsa), pss("-sha384")),
    ];
    for (authority, signed) in cases {
        // Nothing less is taken, so that it works only if both sides bind it alike.
        let stage = over_tls(&authority, &["auth: [scram-sha-256-plus]"]);
        authority.certify_signed(&stage, NAMES, VALID, &signed);
        stage.assert_works();
    }
}

#[test]
fn a_signature_without_a_hash_is_not_bound_and_so_refused() {
    let authority = Authority::with_key(&["ed25519"]);
    let stage = over_tls(&authority, &[]);
    refused(&stage, "08P01", "names no hash to bind it to");
}

#[test]
fn what_the_policy_does_not_list_is_not_answered() {
    let stage = Stage::new();
    let md5 = "SET password_encryption = 'md5'; ALTER ROLE agent_ro PASSWORD";
    stage.fact(&format!("{md5} '{}'", stage.server.agent_password()));
    for (method, why) in [
        ("host AGENT md5", "does not list `md5`"),
        ("host AGENT password", "does not list `password`"),
        ("host AGENT trust", "proves nothing either"),
    ] {
        admit(&stage, method);
        refused(&stage, "08P01", why);
    }
}

#[test]
fn md5_and_the_password_itself_work_where_they_are_listed() {
    let stage = plain("auth: [md5, password-unencrypted]");
    let md5 = "SET password_encryption = 'md5'; ALTER ROLE agent_ro PASSWORD";
    stage.fact(&format!("{md5} '{}'", stage.server.agent_password()));
    for method in ["host AGENT md5", "host AGENT password"] {
        admit(&stage, method);
        stage.assert_works();
    }
    // Listed is not the same as anything goes.
    admit(&stage, "host AGENT trust");
    refused(&stage, "08P01", "proves nothing either");
    stage.fact(&format!("{md5} 'other'"));
    admit(&stage, "host AGENT md5");
    refused(&stage, "08004", "password authentication failed");
}

#[test]
fn the_password_over_tls_needs_no_more_than_that() {
    let authority = Authority::new();
    let stage = over_tls(&authority, &["auth: [password]"]);
    admit(&stage, "hostssl AGENT password");
    stage.assert_works();
    admit(&stage, "hostssl AGENT scram-sha-256");
    refused(&stage, "08P01", "does not list `scram-sha-256`");
}

/// The lines about a client certificate, and its key among the daemon's secrets.
fn with_certificate(authority: &Authority, subject: &str, auth: &str) -> Stage {
    let [chain, key] = authority.issue(subject, "DNS:gate", VALID, &["-sha256"]);
    let key = fs::read_to_string(key).expect("key");
    let ca = format!("ca: {}", authority.certificate().display());
    let chain = format!("client_cert: {}", chain.display());
    let place = format!("client_key: file:{SECRETS}/gate.key");
    let stage = Stage::with(|options| {
        options.secrets.push(("gate.key".into(), key));
        let wait =
            "\n  - {id: w, role: analyst, allow: [sql.call], on: ['shop/pg_catalog.pg_sleep']}\n";
        options.policy.push_str(wait);
        say(options, &[&ca, &chain, &place, auth]);
        if auth.contains("[cert]") {
            let credential = format!("    credential: file:{SECRETS}/shop\n");
            assert!(options.policy.contains(&credential));
            options.policy = options.policy.replace(&credential, "");
        }
    });
    authority.certify(&stage, NAMES, VALID);
    stage
}

#[test]
fn a_client_certificate_stands_beside_the_password() {
    let authority = Authority::new();
    let stage = with_certificate(&authority, "agent_ro", "auth: [scram-sha-256]");
    admit(&stage, "hostssl AGENT scram-sha-256 clientcert=verify-full");
    stage.assert_works();
    let done = stage.python("psycopg_agent.py", &["cancel"], LIMIT);
    assert_eq!(done.stdout.trim(), "57014", "{}", done.stderr);
    // The key is held to the rules of a credential.
    let key = stage.daemon.path("secrets/gate.key");
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    mode(0o644);
    refused(&stage, "08004", "secrets/gate.key has mode 0644");
    mode(0o600);
    stage.assert_works();
    let said = fs::read_to_string(&key).expect("key");
    fs::write(&key, "hunter2").expect("write");
    refused(&stage, "08004", "`client_key` is no private key");
    assert!(!stage.daemon.log().contains("hunter2"));
    fs::write(&key, said).expect("write");
    stage.assert_works();
}

#[test]
fn a_client_certificate_may_be_all_that_is_shown() {
    let authority = Authority::new();
    let stage = with_certificate(&authority, "agent_ro", "auth: [cert]");
    admit(&stage, "hostssl AGENT cert");
    stage.assert_works();
    // Nothing else is told, as there is nothing.
    for method in ["scram-sha-256", "password"] {
        admit(&stage, &format!("hostssl AGENT {method}"));
        refused(&stage, "08P01", "does not list");
    }
}

#[test]
fn a_server_that_wants_a_certificate_gets_the_right_one_or_none() {
    let authority = Authority::new();
    let other = with_certificate(&authority, "somebody", "auth: [cert]");
    admit(&other, "hostssl AGENT cert");
    refused(&other, "08004", "certificate authentication failed");
    let authority = Authority::new();
    let none = over_tls(&authority, &[]);
    admit(&none, "hostssl AGENT scram-sha-256 clientcert=verify-full");
    refused(&none, "08004", "requires a valid client certificate");
    // Without the policy's word for it, a certificate is no proof of the server.
    let authority = Authority::new();
    let unlisted = with_certificate(&authority, "agent_ro", "auth: [scram-sha-256]");
    admit(&unlisted, "hostssl AGENT cert");
    refused(&unlisted, "08P01", "`auth: [cert]`");
}
