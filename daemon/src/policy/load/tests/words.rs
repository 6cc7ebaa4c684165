//! Fields and names that nobody knows, and those of later versions.

use super::*;

#[test]
fn unknown_fields_are_told_with_the_nearest() {
    one_error(
        "version: 1\nroles:\n  a:\n",
        "3:4: a role is a mapping, not nothing",
        "write {}",
    );
    one_error(
        "version: 1\nrulez: []\n",
        "2:1: unknown field `rulez` of a policy file",
        "`rules`",
    );
    one_error(
        "roles: {a: {}}\n",
        "1:1: a policy file has no `version`",
        "",
    );
    one_error("version: 2\n", "1:10: unknown policy version", "version: 1");
    one_error(
        "version: '1'\n",
        "1:10: unknown policy version",
        "version: 1",
    );
    one_error(
        &rule("id: a, rle: analyst, role: analyst, allow: [sql.select], on: [shop]"),
        "6:13: unknown field `rle` of a rule",
        "did you mean `role`?",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [sql.select], on: [shop], zzzzzz: 1"),
        "6:61: unknown field `zzzzzz` of a rule",
        "the fields are: id, role, allow, deny, on",
    );
    one_error(
        "version: 1\nroles: {a: {}}\nroles: {b: {}}\n",
        "3:1: `roles` is there twice in a policy file",
        "line 2",
    );
    one_error(
        "version: 1\nroles: {a: {}, a: {}}\n",
        "2:16: `a` is there twice in `roles`",
        "line 2",
    );
}

#[test]
fn what_this_version_does_not_enforce_is_refused() {
    let later = "is not supported by this version";
    for field in [
        "mask",
        "limits",
        "require",
        "approve",
        "approval",
        "commands",
        "redact_args",
        "mode",
    ] {
        let text = rule(&format!(
            "id: a, role: analyst, allow: [sql.select], on: [shop], {field}: 1"
        ));
        one_error(
            &text,
            &format!("6:61: `{field}` of a rule {later}"),
            "take it out",
        );
    }
    one_error(
        &service("at: ['w:22'], host_key: k"),
        &format!("3:73: `host_key` of a service {later}"),
        "take it out",
    );
    let test = "as: analyst, on: shop, sql: x, expect: allow, masked: [email]";
    one_error(
        &format!("{BASE}tests:\n  - {{{test}}}\n"),
        &format!("6:52: `masked` of a test {later}"),
        "",
    );
}

#[test]
fn protocols_and_verbs_of_later_versions_are_refused() {
    let later = "is not supported by this version";
    for proto in ["ssh", "http", "mysql"] {
        let text = format!(
            "version: 1\nservices:\n  w: {{proto: {proto}, at: ['w:22'], user: u, credential: 'file:/x'}}\n"
        );
        one_error(
            &text,
            &format!("3:14: `proto: {proto}` {later}"),
            "speaks `postgres`",
        );
    }
    one_error(
        "version: 1\nservices:\n  w: {proto: postgresql, at: ['w:22'], user: u, credential: 'file:/x'}\n",
        "3:14: unknown protocol `postgresql`",
        "did you mean `postgres`?",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [ssh.exec], on: [shop]"),
        &format!("6:36: `ssh.exec` {later}"),
        "begin with `sql.`",
    );
    let test = "as: analyst, on: shop, sql: x, expect: approve";
    one_error(
        &format!("{BASE}tests:\n  - {{{test}}}\n"),
        &format!("6:45: `expect: approve` {later}"),
        "allow or deny",
    );
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    one_error(
        &rule("id: a, role: anlayst, allow: [sql.select], on: [shop]"),
        "6:19: unknown role `anlayst`",
        "did you mean `analyst`?",
    );
    one_error(
        &rule("id: a, role: analyst, deny: [sql.wirte], on: [shop]"),
        "6:35: unknown verb `sql.wirte`",
        "did you mean `sql.write`?",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [sql.select], on: [shpo/x.y]"),
        "6:54: no service matches `shpo` of the pattern",
        "did you mean `shop`?",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [sql.select], on: ['shop/x.y', '{shop,web*}']"),
        "6:66: no service matches `web*` of the pattern",
        "the services are: shop",
    );
    let tests = "tests: [{as: anlyst, on: shop, sql: x, expect: deny}, {as: analyst, on: sop, sql: x, expect: deny}]";
    let found = errors(&format!("{BASE}{tests}\n"));
    assert_eq!(found[0].0, "5:14: unknown role or principal `anlyst`");
    assert_eq!(found[1].0, "5:73: unknown service `sop`");
    one_error(
        &format!("{BASE}tests: [{{as: analyst, on: shop, sql: x, expect: alow}}]\n"),
        "5:49: unknown `expect: alow`",
        "`allow`",
    );
}
