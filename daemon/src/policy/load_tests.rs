use super::*;
use crate::policy::{CredentialRef, HelperFormat};
use crate::types::{Principal, ServiceName};

/// `line:column: message` and the help of each error.
fn errors(text: &str) -> Vec<(String, String)> {
    match Policy::from_texts([("p.yaml", text)], 1) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .problems()
            .iter()
            .map(|p| {
                let said = format!("{}:{}: {}", p.line(), p.column(), p.message());
                (said, p.help().unwrap_or("").to_owned())
            })
            .collect(),
    }
}

/// The text has exactly one error: this place and message, and this within its help.
#[track_caller]
fn one_error(text: &str, said: &str, help: &str) {
    let found = errors(text);
    assert_eq!(
        found
            .iter()
            .map(|(said, _)| said.as_str())
            .collect::<Vec<_>>(),
        [said],
        "{text}"
    );
    assert!(found[0].1.contains(help), "help: {}", found[0].1);
}

const BASE: &str = "version: 1
roles: {analyst: {}}
services:
  shop: {proto: postgres, at: ['127.0.0.1:5432'], tls: disable, user: u, credential: 'file:/x'}
";

fn rule(text: &str) -> String {
    format!("{BASE}rules:\n  - {{{text}}}\n")
}

fn service(text: &str) -> String {
    format!(
        "version: 1\nservices:\n  shop: {{proto: postgres, user: u, credential: 'file:/x', {text}}}\n"
    )
}

#[test]
fn the_smallest_policy_loads() {
    let text = rule("id: a, role: analyst, allow: [sql.select], on: [shop]");
    let (policy, warnings) = Policy::from_texts([("p.yaml", text.as_str())], 3).expect("loads");
    assert_eq!(warnings, []);
    assert_eq!(policy.generation(), 3);
    let shop = policy.service(&"shop".into()).expect("service");
    assert_eq!(shop.search_path, ["public"]);
    assert!(shop.has_database("any"));
    assert!(policy.service(&"web".into()).is_none());
}

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
fn what_is_no_yaml_says_where() {
    let plain = "not readable as YAML: ";
    one_error("", "0:0: the file is empty", "version: 1");
    one_error("# nothing\n", "0:0: the file is empty", "version: 1");
    one_error(
        "version: 1\nroles:\n\ta: {}\n",
        "3:1: a tab in the indentation",
        "spaces",
    );
    one_error(
        "a: &x 1\nb: *x\n",
        "1:7: anchors and aliases are not part of the policy language",
        "write the value out",
    );
    one_error(
        "<<: {a: 1}\n",
        "1:1: merge keys (`<<`) are not part of the policy language",
        "fields out",
    );
    one_error(
        "version: 1\n---\nversion: 1\n",
        "2:1: a second YAML document in the file",
        "one file for each",
    );
    let deep = "[".repeat(100_000);
    one_error(&deep, "1:17: nested deeper than 16 levels", "");
    let deep = (0..100)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect::<String>();
    one_error(&deep, "17:17: nested deeper than 16 levels", "");
    one_error(
        "a: b: c\n",
        &format!("1:5: {plain}mapping values are not allowed in this context"),
        "",
    );
    one_error("a: 'x\n", &format!("1:4: {plain}unclosed quote"), "");
    one_error(
        "a: !x 1\n",
        &format!("1:7: {plain}unsupported tag `!x`"),
        "",
    );
    one_error(
        "a: \0\n",
        &format!("1:4: {plain}unexpected character: `\\u{{0}}'"),
        "",
    );
    one_error("- a\n", "1:1: a policy file is a mapping, not a list", "");
    one_error("hello\n", "1:1: a policy file is a mapping, not text", "");
}

#[test]
fn a_bomb_of_anchors_is_refused_at_its_first() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..30 {
        let item = format!("*a{},", n - 1).repeat(9);
        bomb.push_str(&format!("a{n}: &a{n} [{item}]\n"));
    }
    let start = std::time::Instant::now();
    one_error(
        &bomb,
        "1:9: anchors and aliases are not part of the policy language",
        "",
    );
    assert!(start.elapsed().as_secs() < 1);
}

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

#[test]
fn a_rule_is_whole_or_refused() {
    one_error(
        &rule("role: analyst, allow: [sql.select], on: [shop]"),
        "6:5: a rule has no `id`",
        "",
    );
    one_error(
        &rule("id: a, allow: [sql.select], on: [shop]"),
        "6:5: a rule has no `role`",
        "",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [sql.select]"),
        "6:5: a rule has no `on`",
        "",
    );
    one_error(
        &rule("id: a, role: analyst, on: [shop]"),
        "6:5: a rule has neither `allow` nor `deny`",
        "allow: [",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [sql.tx], deny: [sql.ddl], on: [shop]"),
        "6:51: a rule with both `allow` and `deny`",
        "two rules",
    );
    one_error(
        &rule("id: a, role: analyst, allow: sql.select, on: [shop]"),
        "6:35: `allow` is a list, not text",
        "write ['sql.select']",
    );
    one_error(
        &rule("id: a, role: analyst, deny: [], on: [shop]"),
        "6:34: `deny` is an empty list",
        "",
    );
    one_error(
        &rule("id: a, role: analyst, deny: , on: [shop]"),
        "6:32: `deny` is a list, not nothing",
        "leave the field out",
    );
    one_error(
        &rule("id: 'a b', role: analyst, allow: [sql.tx], on: [shop]"),
        "6:10: `a b` can't be the id of a rule",
        "a letter or digit",
    );
    one_error(
        &rule("id: 7, role: analyst, allow: [sql.tx], on: [shop]"),
        "6:10: `id` is text, not a number",
        "quotes",
    );
    one_error(
        &rule("id: a, role: analyst, allow: [sql.tx], on: [shop/public.Orders]"),
        "6:50: `shop/public.Orders`: the capital `O` in `Orders`",
        "write orders, or",
    );
}

#[test]
fn ids_and_names_and_destinations_are_unique_over_files() {
    let one = rule("id: a, role: analyst, allow: [sql.tx], on: [shop]");
    let two = "version: 1\nrules:\n  - {id: a, role: '*', deny: [sql.ddl], on: [shop]}\n";
    let errors = Policy::from_texts([("one", one.as_str()), ("two", two)], 1).expect_err("twice");
    assert_eq!(
        errors.to_string(),
        "two:3:10: error: a second rule `a`\n 3 |   - {id: a, role: '*', deny: [sql.ddl], on: [shop]}\n   \
         |          ^\n   = help: the first is at one:6"
    );
    let two = "version: 1\nroles: {analyst: {}}\nservices:\n  web: {proto: postgres, at: ['x:1', \
               '[::ffff:127.0.0.1]:5432'], user: u, credential: 'file:/x'}\n";
    let errors = Policy::from_texts([("one", one.as_str()), ("two", two)], 1).expect_err("twice");
    let said: Vec<_> = errors
        .problems()
        .iter()
        .map(|p| (p.line(), p.message()))
        .collect();
    let clash = "127.0.0.1:5432 is the destination of two services";
    assert_eq!(said, [(2, "a second role `analyst`"), (4, clash)]);
    assert!(
        errors.problems()[1]
            .help()
            .is_some_and(|help| help.contains("service shop at one:4"))
    );
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
fn a_broken_definition_does_not_make_its_name_unknown() {
    let text = "version: 1\nroles: {analyst: {when: {}}}\nservices:\n  shop: {proto: postgres, at: [x]}\n\
         rules:\n  - {id: a, role: analyst, allow: [sql.tx], on: [shop]}\n";
    let said: Vec<_> = errors(text).into_iter().map(|(said, _)| said).collect();
    assert_eq!(
        said,
        [
            "2:25: `when` says nothing",
            "4:9: a service has no `user`",
            "4:9: a service has no `credential`",
            "4:32: `x` is no destination: no port",
        ]
    );
}

#[test]
fn an_unreadable_file_does_not_make_its_names_unknown() {
    let rules = "version: 1\nrules: [{id: a, role: boss, allow: [sql.tx], on: [web]}]\n";
    let errors = Policy::from_texts([("a", rules), ("b", "version: 1: 2\n")], 1);
    let errors = errors.expect_err("refused");
    let files: Vec<_> = errors.problems().iter().map(Problem::file).collect();
    assert_eq!(files, ["b"], "{errors}");
}

/// The examples of the manual page are read by the code that it describes.
#[test]
fn the_manual_is_right() {
    let manual = include_str!("../../../docs/policy.md");
    let examples: Vec<&str> = manual.split("```yaml\n").skip(1).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let (example, _) = example.split_once("```").expect("an end");
        assert_eq!(errors(&format!("version: 1\n{example}")), []);
    }
    let (_, patterns) = manual.split_once("### Patterns").expect("a section");
    let (patterns, _) = patterns.split_once("\n- ").expect("a table");
    let rows: Vec<&str> = patterns
        .lines()
        .filter(|row| row.starts_with("| `"))
        .collect();
    assert_eq!(rows.len(), 7);
    for pattern in rows
        .iter()
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
    {
        let pattern = pattern.trim_matches('\'');
        assert!(crate::policy::glob::parse(pattern).is_ok(), "{pattern}");
    }
    let text = format!(
        "version: 1\nrules:{}\n  - id: a\n    allow: [sql.selct]\n    role: '*'\n    on: ['*']\n",
        "\n".repeat(18)
    );
    let said = Policy::from_texts([("shop.yaml", text.as_str())], 1).expect_err("refused");
    assert!(manual.contains(&said.to_string()), "{said}");
}

#[test]
fn odd_policies_load_with_a_warning() {
    let warnings = |text: &str| -> Vec<String> {
        let (_, warnings) = Policy::from_texts([("p.yaml", text)], 1).expect("loads");
        warnings
            .iter()
            .map(|warning| warning.0.message().to_owned())
            .collect()
    };
    assert_eq!(
        warnings(BASE),
        [
            "there is no rule: everything is refused",
            "no rule is for role `analyst`",
            "no rule is on service `shop`",
        ]
    );
    let quoted = rule("id: a, role: analyst, allow: [sql.tx], on: ['shop/hr.\"Pay*\"']");
    assert_eq!(
        warnings(&quoted),
        ["in double quotes, `*`, `{` and `}` stand for themselves"]
    );
    let plain = BASE.replace("127.0.0.1", "10.0.0.1")
        + "rules: [{id: a, role: analyst, allow: [sql.tx], on: [shop]}]\n";
    assert_eq!(
        warnings(&plain),
        ["rows go to and from 10.0.0.1:5432 unencrypted"]
    );
}

fn load_error(path: &Path) -> String {
    let errors = Policy::load(path, 1).expect_err("refused");
    errors
        .to_string()
        .replace(&path.display().to_string(), "DIR")
}

#[test]
fn a_directory_is_loaded_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("directory");
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("write");
    let path = dir.path();
    assert_eq!(
        load_error(&path.join("none")),
        "DIR: error: can't be read: No such file or directory"
    );
    assert!(load_error(path).starts_with("DIR: error: no policy file in this directory"));

    put("b.yaml", BASE.as_bytes());
    put(
        "a.yml",
        b"version: 1\nrules: [{id: a, role: analyst, allow: [sql.tx], on: [shop]}]\n",
    );
    put(".c.yaml", b"not read");
    put("d.yaml~", b"not read");
    let (policy, warnings) = Policy::load(path, 9).expect("loads");
    assert_eq!((policy.generation(), warnings.len()), (9, 0));
    let (_, warnings) = Policy::load(&path.join("b.yaml"), 9).expect("one file loads");
    assert_eq!(warnings.len(), 3);

    // The rest is told together, and a.yml's role and service are not called unknown.
    put("b.yaml", b"\xef\xbb\xbfversion: 1\n");
    put("e.yaml", b"version: 1\nx: \xff\n");
    put("f.yaml", &vec![b'#'; 10 << 20]);
    put("g.yaml", b"version: 1\nrulez: 1\n");
    fs::create_dir(path.join("h.yaml")).expect("directory");
    std::os::unix::fs::symlink(path.join("gone"), path.join("i.yaml")).expect("link");
    assert_eq!(
        load_error(path),
        "DIR/b.yaml: error: begins with a byte order mark\n  = help: save it as UTF-8 without a byte order mark\n\
         DIR/e.yaml: error: line 2 is not UTF-8\n  = help: save it as UTF-8 without a byte order mark\n\
         DIR/f.yaml: error: larger than 1024 KiB\n  = help: split it into several files\n\
         DIR/h.yaml: error: not a regular file\n\
         DIR/i.yaml: error: can't be read: No such file or directory\n\
         DIR/g.yaml:2:1: error: unknown field `rulez` of a policy file\n 2 | rulez: 1\n   | ^^^^^\n   = help: did you mean `rules`?"
    );
}

#[test]
fn symbolic_links_are_followed() {
    let (dir, elsewhere) = (
        tempfile::tempdir().expect("dir"),
        tempfile::tempdir().expect("dir"),
    );
    let target = elsewhere.path().join("shop");
    fs::write(&target, BASE).expect("write");
    std::os::unix::fs::symlink(&target, dir.path().join("shop.yaml")).expect("link");
    let (policy, _) = Policy::load(dir.path(), 1).expect("loads");
    assert_eq!(policy.services().count(), 1);
}

#[test]
fn many_errors_are_counted_not_printed() {
    let rules: String = (0..80)
        .map(|n| format!("  - {{id: r{n}, role: nobody, allow: [sql.tx], on: [shop]}}\n"))
        .collect();
    let text = format!("{BASE}rules:\n{rules}");
    let errors = Policy::from_texts([("p.yaml", text.as_str())], 1).expect_err("refused");
    assert_eq!(errors.problems().len(), 80);
    assert!(errors.to_string().ends_with("\n... and 30 more"));
}

proptest::proptest! {
    /// Whatever the file holds: an answer, no panic.
    #[test]
    fn no_text_breaks_the_loader(
        at in 0..800_usize,
        length in 0..20_usize,
        new in "[\\x00-\\x7fé \"'{}\\[\\]:,&*!|>\\n\\t-]{0,8}",
    ) {
        let mut text = include_str!("../../../policies/library/shop.yaml").replace(|c: char| !c.is_ascii(), "");
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.replace_range(at..end, &new);
        let _ = Policy::from_texts([("p.yaml", text.as_str())], 1);
    }
}

/// The place is where the `@` was, after wide characters, in blocks and in later lines.
#[test]
fn places_are_exact() {
    for marked in [
        "version: @2\n",
        "version: 1\n@rulez: []\n",
        "version: 1\n# größe → 大\nroles:\n  a:\n    when:\n      cgroup: @x\n",
        "version: 1\nroles: {größe: {}, a: {@x: 1}}\n",
        "version: 1\nrules:\n  - id: a\n    role: @nobody\n    deny: [sql.tx]\n    on: [x]\n",
        "version: 1\nrules:\n  - @id: a\n    role: '*'\n    on: [x]\n",
        "version: 1\r\nroles:\r\n  a:\r\n    @wen: {}\r\n",
        "version: 1\nrules:\n- {id: a, role: '*', on: ['*'], deny: [sql.tx, @\"sql.wirte\"]}\n",
    ] {
        let (before, _) = marked.split_once('@').expect("a mark");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let place = format!("{line}:{column}: ");
        let found = errors(&marked.replace('@', ""));
        assert!(
            found.iter().any(|(said, _)| said.starts_with(&place)),
            "{marked}: {place} {found:?}"
        );
    }
}

fn role(text: &str) -> String {
    format!("version: 1\nroles:\n  analyst: {{{text}}}\n")
}

#[test]
fn unix_sockets_are_the_union_over_a_principals_roles() {
    let text = "version: 1
roles:
  a: {when: {as: [x, y]}, unix_sockets: ['/run/nscd/socket', '@bus']}
  b: {when: {as: [x]}, unix_sockets: ['@bus', '/run/b.sock']}
  c: {when: {as: [x]}}
";
    let (policy, _) = Policy::from_texts([("p.yaml", text)], 1).expect("loads");
    let of = |name: &str| policy.unix_sockets_of(&Principal::named(name));
    assert_eq!(
        of("x"),
        ["/run/b.sock", "/run/nscd/socket", "@bus"].map(Into::into)
    );
    assert_eq!(of("y"), ["/run/nscd/socket", "@bus"].map(Into::into));
    assert!(of("z").is_empty());
}

#[test]
fn what_is_no_exact_name_of_a_unix_socket_is_an_error() {
    let long = format!("/{}", "x".repeat(107));
    for (name, said, help) in [
        (
            "run/x",
            "`run/x` is not the name of a unix socket",
            "absolute",
        ),
        ("/run/*.sock", "`/run/*.sock` is a pattern", "exact"),
        (
            "/run/../x",
            "`/run/../x` is not the plain path of a socket",
            "..",
        ),
        (
            "/run//x",
            "`/run//x` is not the plain path of a socket",
            "//",
        ),
        (
            "/run/x/",
            "`/run/x/` is not the plain path of a socket",
            "end",
        ),
        ("@", "the empty abstract name", "after the @"),
        (&long, "longer than 107 bytes", "no unix socket"),
    ] {
        let text = role(&format!("unix_sockets: ['{name}']"));
        one_error(&text, &format!("3:28: {said}"), help);
    }
    let text = role("unix_socket: ['/run/x']");
    one_error(
        &text,
        "3:13: unknown field `unix_socket` of a role",
        "unix_sockets",
    );
    let text = role("unix_sockets: '/run/x'");
    one_error(
        &text,
        "3:27: `unix_sockets` is a list, not text",
        "['/run/x']",
    );
}

#[test]
fn a_socket_where_everybody_may_put_a_link_is_worth_a_word() {
    let text = role("unix_sockets: ['/tmp/x.sock']");
    let (_, warnings) = Policy::from_texts([("p.yaml", text.as_str())], 1).expect("loads");
    let said = |warning: &Warning| warning.to_string().contains("link to another socket");
    assert!(warnings.iter().any(said), "{warnings:?}");
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
