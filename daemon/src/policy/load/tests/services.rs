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
    let CredentialRef::Exec(helper) = &found.credential else {
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
