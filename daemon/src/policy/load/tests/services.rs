//! Services: destinations, TLS, credentials.

use super::*;
use crate::policy::{CredentialRef, HelperFormat};
use crate::types::ServiceName;

#[test]
fn tls_is_verified_unless_it_is_disabled() {
    let text = service("at: [db.corp:5432], ca: /etc/ca.pem, databases: [a, b]");
    let (policy, _) = Policy::from_texts([("p.yaml", text.as_str())], 1).expect("loads");
    let shop = policy.services().next().expect("service");
    assert_eq!(
        shop.tls,
        crate::policy::Tls::VerifyFull {
            ca: Some("/etc/ca.pem".into())
        }
    );
    assert!(shop.has_database("b") && !shop.has_database("c"));
    let text = service("at: [db.corp:5432]");
    let (policy, _) = Policy::from_texts([("p.yaml", text.as_str())], 1).expect("loads");
    let shop = policy.services().next().expect("service");
    assert_eq!(shop.tls, crate::policy::Tls::VerifyFull { ca: None });
}

#[test]
fn a_service_is_checked_when_it_loads() {
    let at = "at: [db:1]";
    one_error(&service(""), "3:9: a service has no `at`", "");
    one_error(
        &service("at: ['db']"),
        "3:64: `db` is no destination: no port",
        "write host:port",
    );
    one_error(
        &service(&format!("{at}, tls: require")),
        "3:76: `tls: require` is not offered",
        "use verify-full",
    );
    one_error(
        &service(&format!("{at}, tls: false")),
        "3:76: `tls` is text, not true or false",
        "quotes",
    );
    one_error(
        &service(&format!("{at}, tls: disable, ca: /x")),
        "3:89: `ca` has no use with `tls: disable`",
        "",
    );
    one_error(
        &service(&format!("{at}, ca: x.pem")),
        "3:75: the path of `ca` is not absolute",
        "",
    );
    one_error(
        &service(&format!("{at}, database: a, databases: [b]")),
        "3:95: a service with both `database` and `databases`",
        "",
    );
    one_error(
        &service(&format!("{at}, search_path: [$user, public]")),
        "3:85: `$user` can't stand in `search_path`",
        "list the schemas",
    );
    one_error(
        &service(&format!("{at}, users: {{a: hunter2}}")),
        "3:82: a credential is not written into a policy",
        "",
    );
    one_error(
        &service(&format!("{at}, users: {{{}: 'file:/x'}}", "x".repeat(64))),
        "3:79: a user's name has 1 to 63 bytes",
        "",
    );
    one_error(
        &service(&format!("{at}, users: {{u: 'file:/x'}}")),
        "3:79: `u` is the service's own `user`",
        "its credential is the service's `credential`",
    );
    one_error(
        &service(&format!("{at}, database: {}", "x".repeat(64))),
        "3:81: `database` is longer than 63 bytes",
        "",
    );
}

#[test]
fn a_password_in_a_policy_is_not_repeated() {
    let text = "version: 1\nservices:\n  shop: {proto: postgres, at: [x:1], user: u, credential: hunter2, usr: u}\n";
    let errors = Policy::from_texts([("p.yaml", text)], 1).expect_err("refused");
    assert_eq!(errors.problems().len(), 2);
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
    assert!(
        errors
            .to_string()
            .contains("a credential is not written into a policy"),
        "{errors}"
    );
}

#[test]
fn a_credential_with_settings_is_a_mapping() {
    let one = |credential: &str| {
        format!(
            "version: 1\nservices:\n  s: {{proto: postgres, at: ['127.0.0.1:1'], tls: disable, \
             user: u, credential: {credential}}}\n"
        )
    };
    let (policy, _) = Policy::from_texts(
        [(
            "p.yaml",
            one("{exec: [/bin/helper, a b], timeout: 2s, format: json}").as_str(),
        )],
        1,
    )
    .expect("policy");
    let found = policy.service(&ServiceName::from("s")).expect("service");
    let Some(CredentialRef::Exec(helper)) = &found.credential else {
        panic!("{:?}", found.credential)
    };
    assert_eq!(helper.argv, ["/bin/helper", "a b"]);
    assert_eq!(helper.timeout.as_secs(), 2);
    assert_eq!(helper.format, HelperFormat::Json);
    for (credential, message) in [
        ("{exec: [helper]}", "not absolute"),
        ("{exec: []}", "is an empty list"),
        ("{exec: /bin/helper}", "is a list, not text"),
        ("{exec: [/bin/x], timeout: 0s}", "from 1s to 60s"),
        ("{exec: [/bin/x], timeout: 5m}", "from 1s to 60s"),
        ("{exec: [/bin/x], format: yaml}", "unknown `format: yaml`"),
        ("{exec: [/bin/x], shell: true}", "unknown field `shell`"),
        ("{vault: secret/app}", "no path of the database engine"),
        (
            "{vault: 'database/creds/r', timeout: 5s}",
            "belongs to `exec`",
        ),
        (
            "{vault: 'database/creds/r', exec: [/x]}",
            "both `exec` and `vault`",
        ),
        ("{}", "no `exec` and no `vault`"),
    ] {
        let said: Vec<_> = errors(&one(credential));
        let fits = said
            .iter()
            .any(|(text, _)| text.contains(message) && text.starts_with("3:"));
        assert!(fits, "{credential}: {said:?}");
    }
}

fn login(text: &str) -> String {
    format!("version: 1\nservices:\n  shop: {{proto: postgres, at: [db:1], user: u, {text}}}\n")
}

#[test]
fn the_ways_to_log_in_are_read() {
    use crate::policy::Auth;
    let read = |text: &str| {
        let text = login(text);
        let (policy, _) = Policy::from_texts([("p.yaml", text.as_str())], 1).expect(&text);
        policy.services().next().expect("service").clone()
    };
    let shop = read("credential: 'file:/x'");
    assert_eq!(
        (shop.auth, shop.client_cert),
        (vec![Auth::ScramSha256], None)
    );
    let shop = read("credential: 'file:/x', auth: [scram-sha-256-plus, md5, password]");
    let three = vec![Auth::ScramSha256Plus, Auth::Md5, Auth::Password];
    assert_eq!(shop.auth, three);
    let pair = "client_cert: /g.crt, client_key: 'file:/g.key'";
    let shop = read(&format!("credential: 'file:/x', {pair}"));
    let shown = shop.client_cert.clone().expect("a certificate");
    assert_eq!(shown.chain, std::path::Path::new("/g.crt"));
    assert_eq!(shown.key, CredentialRef::File("/g.key".into()));
    assert_eq!(shop.secrets().count(), 2);
    let shop = read(&format!("auth: [cert], {pair}"));
    assert_eq!((shop.credential.clone(), shop.secrets().count()), (None, 1));
    let shop = read(
        "auth: [cert, scram-sha-256], credential: 'env:A', client_cert: /c, client_key: 'systemd:k'",
    );
    assert_eq!(shop.auth, [Auth::Cert, Auth::ScramSha256]);
    let shop = read("tls: disable, credential: 'file:/x', auth: [md5, password-unencrypted]");
    assert_eq!(shop.auth, [Auth::Md5, Auth::PasswordUnencrypted]);
}

#[test]
fn a_way_to_log_in_that_could_not_count_is_refused() {
    let pair = "client_cert: /g.crt, client_key: 'file:/g.key'";
    let secret = "credential: 'file:/x'";
    for (text, said, help) in [
        (
            format!("{secret}, auth: [scram]"),
            "3:78: unknown method `scram` of `auth`",
            "the methods are: scram-sha-256,",
        ),
        (
            format!("{secret}, auth: [scram-sha256]"),
            "3:78: unknown method `scram-sha256` of `auth`",
            "did you mean `scram-sha-256`?",
        ),
        (
            format!("{secret}, auth: [trust]"),
            "3:78: `auth: [trust]` is not offered",
            "the gate logs in by scram-sha-256,",
        ),
        (
            format!("{secret}, auth: md5"),
            "3:77: `auth` is a list, not text",
            "write ['md5']",
        ),
        (
            format!("{secret}, auth: []"),
            "3:77: `auth` is an empty list",
            "",
        ),
        (
            format!("{secret}, auth: [md5, md5]"),
            "3:83: `md5` is there twice in `auth`",
            "",
        ),
        (
            format!("{secret}, tls: disable, auth: [password]"),
            "3:92: `auth: [password]` does not go with `tls: disable`",
            "say `password-unencrypted`",
        ),
        (
            format!("{secret}, tls: disable, auth: [scram-sha-256-plus]"),
            "3:92: `auth: [scram-sha-256-plus]` does not go with `tls: disable`",
            "no TLS",
        ),
        (
            format!("{secret}, auth: [cert, md5]"),
            "3:77: `auth` lists `cert`, and the service has no `client_cert`",
            "client_key",
        ),
        (
            format!("{secret}, auth: [cert], {pair}"),
            "3:60: `credential` has no use with `auth: [cert]`",
            "",
        ),
        (
            format!("auth: [cert], {pair}, users: {{v: 'file:/v'}}"),
            "3:118: with `auth: [cert]` no credential of `users` is ever asked for",
            "",
        ),
        (
            format!("auth: [md5], {pair}"),
            "3:9: a service has no `credential`",
            "",
        ),
        (
            format!("{secret}, client_cert: /g.crt"),
            "3:84: `client_cert` and `client_key` belong together",
            "",
        ),
        (
            format!("{secret}, client_key: 'file:/g.key'"),
            "3:83: `client_cert` and `client_key` belong together",
            "",
        ),
        (
            format!("{secret}, tls: disable, {pair}"),
            "3:98: `client_cert` has no use with `tls: disable`",
            "",
        ),
        (
            format!("{secret}, client_cert: g.crt, client_key: 'file:/g.key'"),
            "3:84: the path of `client_cert` is not absolute",
            "",
        ),
        (
            format!("{secret}, client_cert: /g.crt, client_key: 'env:KEY'"),
            "3:104: a private key has several lines, and is kept in a file",
            "systemd:NAME",
        ),
        (
            format!("{secret}, client_cert: /g.crt, client_key: {{exec: [/x]}}"),
            "3:104: `client_key` is text, not a mapping",
            "",
        ),
    ] {
        one_error(&login(&text), said, help);
    }
}

#[test]
fn a_key_in_a_policy_is_not_repeated() {
    let text = login("credential: 'file:/x', client_cert: /g, client_key: hunter2, usr: u");
    let errors = Policy::from_texts([("p.yaml", text.as_str())], 1).expect_err("refused");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}
