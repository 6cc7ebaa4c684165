mod files;
mod services;
mod sockets;
mod words;
mod yaml;

use super::*;

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
    assert_eq!(shop.search_path, Some(vec!["public".into()]));
    assert!(shop.has_database("any"));
    assert!(policy.service(&"web".into()).is_none());
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

/// The examples of the manual page are read by the code that it describes.
#[test]
fn the_manual_is_right() {
    let manual = include_str!("../../../../docs/policy.md");
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
