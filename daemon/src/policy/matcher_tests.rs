use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::policy::DenyReason;

const HEAD: &str = "
version: 1
roles:
  analyst: {}
  etl: {when: {as: [loader, both]}}
  ops: {when: {as: [both]}}
services:
  shop: {proto: postgres, at: ['127.0.0.1:5432'], tls: disable, user: u, credential: 'file:/x'}
  web: {proto: postgres, at: ['127.0.0.1:5433'], tls: disable, user: u, credential: 'file:/x'}
";

fn policy(rules: &str) -> Policy {
    let text = format!("{HEAD}rules:\n{rules}");
    match Policy::from_texts([("p.yaml", text.as_str())], 7) {
        Ok((policy, _)) => policy,
        Err(errors) => panic!("{errors}"),
    }
}

fn principal(name: &str) -> Principal {
    Principal::named(name)
}

fn decide(policy: &Policy, who: &str, service: &str, effects: &[Effect]) -> Decision {
    let (principal, service) = (principal(who), ServiceName::from(service));
    policy.decide(&Request {
        principal: &principal,
        service: &service,
        effects,
    })
}

fn on(verb: &str, path: &str) -> Effect {
    let verb = crate::policy::expand_verb(verb).expect("verb")[0];
    if path.is_empty() {
        Effect::on_service(verb)
    } else {
        Effect::on_path(verb, path)
    }
}

fn denial(decision: Decision) -> super::super::Denial {
    match decision {
        Decision::Deny(denial) => denial,
        Decision::Allow(permit) => panic!("allowed by {:?}", permit.rules()),
    }
}

fn rules_of(decision: &Decision) -> Vec<&str> {
    match decision {
        Decision::Allow(permit) => permit.rules().iter().map(|rule| &*rule.id).collect(),
        Decision::Deny(denial) => panic!("{}", denial.message()),
    }
}

const SHOP: &str = "
  - {id: read, role: analyst, allow: [sql.select], on: ['shop/public.{orders,products}']}
  - {id: write, role: etl, allow: [sql.insert], on: ['shop/public.*']}
  - {id: no-ddl, role: '*', deny: [sql.ddl], on: ['shop/*']}
  - {id: no-hr, role: '*', deny: ['sql.*'], on: ['shop/hr.*']}
  - {id: ops, role: ops, allow: ['sql.*'], on: [shop]}
";

#[test]
fn every_effect_needs_a_rule_and_the_permit_lists_them() {
    let policy = policy(SHOP);
    let both = [
        on("sql.select", "public.orders"),
        on("sql.select", "public.products"),
    ];
    let allowed = decide(&policy, "analyst", "shop", &both);
    assert_eq!(rules_of(&allowed), ["read"]);
    let Decision::Allow(permit) = &allowed else {
        panic!("allowed")
    };
    assert_eq!(permit.generation(), 7);
    assert_eq!(permit.rules()[0].to_string(), "read (p.yaml:12)");

    let one_too_many = [
        on("sql.select", "public.orders"),
        on("sql.select", "public.customers"),
    ];
    let refused = denial(decide(&policy, "analyst", "shop", &one_too_many));
    assert_eq!(refused.reason, DenyReason::NotAllowed);
    assert_eq!(refused.effect, Some(on("sql.select", "public.customers")));
    assert_eq!(
        refused.message(),
        "sql.select on shop/public.customers is allowed by no rule of role analyst"
    );
    let hint = "this role may sql.select on shop/public.{orders,products}";
    assert_eq!(refused.hint(), Some(hint));
}

#[test]
fn deny_beats_allow_and_is_told_first() {
    let policy = policy(SHOP);
    let effects = [on("sql.update", "x.y"), on("sql.select", "hr.pay")];
    let refused = denial(decide(&policy, "both", "shop", &effects));
    assert_eq!(refused.reason, DenyReason::DeniedByRule);
    assert_eq!(
        refused.message(),
        "sql.select on shop/hr.pay is denied by rule no-hr"
    );
    assert_eq!(refused.rule.map(|rule| rule.line), Some(15));
    for hidden in [r#"hr."Weird.Name""#, r#"hr."a/b""#, r#""hr"."pay""#, "hr"] {
        let refused = denial(decide(&policy, "both", "shop", &[on("sql.select", hidden)]));
        assert_eq!(refused.reason, DenyReason::DeniedByRule, "{hidden}");
    }
}

#[test]
fn roles_of_one_principal_are_a_union() {
    let policy = policy(SHOP);
    let names = |who: &str| -> Vec<String> {
        policy
            .roles_of(&principal(who))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(names("both"), ["etl", "ops"]);
    assert_eq!(names("analyst"), ["analyst"]);
    // A role with `when` has no principal of its own name.
    assert_eq!(names("etl"), [""; 0]);
    let allowed = decide(&policy, "both", "shop", &[on("sql.insert", "public.x")]);
    assert_eq!(rules_of(&allowed), ["ops"]);
}

#[test]
fn what_has_no_role_or_no_rule_gets_nothing() {
    let policy = policy(SHOP);
    for effects in [
        &[][..],
        &[on("sql.tx", "")],
        &[on("sql.select", "public.orders")],
    ] {
        let refused = denial(decide(&policy, "stranger", "shop", effects));
        assert_eq!(refused.reason, DenyReason::NoRole);
        assert_eq!(
            refused.message(),
            "principal stranger has no role in the policy"
        );
        let refused = denial(decide(&policy, "analyst", "web", effects));
        assert_eq!(refused.reason, DenyReason::NoRuleOnService);
        assert_eq!(
            refused.message(),
            "no rule of role analyst allows anything on web"
        );
        assert!(!decide(&policy, "analyst", "nowhere", effects).is_allow());
    }
}

#[test]
fn every_role_is_not_everybody() {
    let policy = policy("  - {id: all, role: '*', allow: [sql.select], on: [shop]}\n");
    let effects = [on("sql.select", "public.orders")];
    for who in ["analyst", "loader", "both"] {
        assert!(decide(&policy, who, "shop", &effects).is_allow(), "{who}");
    }
    for who in ["stranger", "etl", "*", ""] {
        assert!(!decide(&policy, who, "shop", &effects).is_allow(), "{who}");
        assert!(
            !policy.admit(&principal(who), &"shop".into()).is_allow(),
            "{who}"
        );
    }
}

#[test]
fn only_an_allow_rule_admits() {
    let policy = policy(SHOP);
    let admitted = policy.admit(&principal("analyst"), &"shop".into());
    assert_eq!(rules_of(&admitted), ["read"]);
    for (who, service) in [
        ("stranger", "shop"),
        ("analyst", "web"),
        ("analyst", "nowhere"),
    ] {
        let refused = denial(policy.admit(&principal(who), &service.into()));
        assert_eq!(refused.effect, None);
    }
}

#[test]
fn the_service_as_a_whole_comes_with_any_allow_for_harmless_verbs_only() {
    let rules = "
  - {id: read, role: analyst, allow: [sql.select], on: ['shop/public.orders']}
  - {id: no-set, role: etl, deny: [sql.session], on: [shop]}
  - {id: no-hr, role: etl, deny: ['sql.*'], on: ['shop/hr.*']}
  - {id: load, role: etl, allow: [sql.insert], on: ['shop/public.orders']}
";
    let policy = policy(rules);
    for verb in ["sql.tx", "sql.session", "sql.select"] {
        let allowed = decide(&policy, "analyst", "shop", &[on(verb, "")]);
        assert_eq!(rules_of(&allowed), ["read"], "{verb}");
    }
    assert_eq!(rules_of(&decide(&policy, "analyst", "shop", &[])), ["read"]);
    for verb in [
        "sql.procedural",
        "sql.unsafe_io",
        "sql.unknown",
        "sql.ddl",
        "sql.call",
    ] {
        assert!(
            !decide(&policy, "analyst", "shop", &[on(verb, "")]).is_allow(),
            "{verb}"
        );
    }
    let refused = denial(decide(&policy, "loader", "shop", &[on("sql.session", "")]));
    assert_eq!(
        refused.message(),
        "sql.session on shop is denied by rule no-set"
    );
    // A deny on a part of the service does not reach the whole.
    assert!(decide(&policy, "loader", "shop", &[on("sql.tx", "")]).is_allow());
}

#[test]
fn unknown_is_allowed_only_by_name() {
    let rules = "
  - {id: all, role: analyst, allow: ['sql.*'], on: [shop]}
  - {id: unknown, role: ops, allow: [sql.unknown], on: [shop]}
";
    let policy = policy(rules);
    let unknown = [on("sql.unknown", "")];
    let refused = denial(decide(&policy, "analyst", "shop", &unknown));
    assert_eq!(
        refused.message(),
        "sql.unknown on shop is allowed by no rule of role analyst"
    );
    assert!(
        refused
            .hint()
            .is_some_and(|hint| hint.contains("more plainly"))
    );
    assert!(decide(&policy, "both", "shop", &unknown).is_allow());
}

#[test]
fn a_path_that_is_none_is_covered_by_nothing() {
    let policy = policy("  - {id: all, role: analyst, allow: ['sql.*'], on: ['shop/*']}\n");
    for path in [".", "a..b", "\"a", "a.\"b\"c"] {
        assert!(
            !decide(&policy, "analyst", "shop", &[on("sql.select", path)]).is_allow(),
            "{path}"
        );
    }
}

#[test]
fn a_schema_needs_all_of_it_allowed_and_nothing_in_it_denied() {
    let rules = "
  - {id: ddl, role: analyst, allow: [sql.ddl], on: ['shop/{public,hr}.*', 'shop/a.b']}
  - {id: keep, role: '*', deny: [sql.ddl], on: ['shop/hr.pay']}
";
    let policy = policy(rules);
    let ddl = |path: &str| decide(&policy, "analyst", "shop", &[on("sql.ddl", path)]).is_allow();
    assert!(ddl("public"));
    assert!(!ddl("hr"));
    assert!(ddl("hr.other"));
    assert!(!ddl("a"));
}

#[test]
fn refusals_are_one_short_line() {
    let policy = policy(SHOP);
    let long = format!("public.\"a\n\u{1b}{}\"", "x".repeat(10_000));
    let refused = denial(decide(
        &policy,
        "analyst",
        "shop",
        &[on("sql.select", &long)],
    ));
    assert!(refused.message().len() < 300 && !refused.message().contains(['\n', '\u{1b}']));
    let refused = denial(decide(
        &policy,
        "analyst",
        "shop",
        &[on("sql.delete", "public.orders")],
    ));
    assert_eq!(refused.hint(), Some("this role may sql.select on shop"));
}

fn effect() -> impl Strategy<Value = Effect> {
    let verb = prop::sample::select(vec!["sql.select", "sql.insert", "sql.ddl", "sql.tx"]);
    let path = prop::sample::select(vec![
        "",
        "public.a",
        "public.b",
        "hr.a",
        "hr.\"A.b\"",
        "public",
        "hr",
    ]);
    (verb, path).prop_map(|(verb, path)| on(verb, path))
}

fn rule(denies: bool) -> impl Strategy<Value = String> {
    let role = prop::sample::select(vec!["analyst", "etl", "ops", "'*'"]);
    let verb = prop::sample::select(vec!["sql.select", "sql.write", "sql.ddl", "'sql.*'"]);
    let on = prop::sample::select(vec![
        "shop",
        "web",
        "'*'",
        "'shop/*'",
        "'shop/public.*'",
        "'shop/{public,hr}.a'",
        "'shop/h*.*'",
        "'shop/*.b'",
        "'*/hr.\"A.b\"'",
        "'shop/p*.{a,b}*'",
    ]);
    let what = if denies { "deny" } else { "allow" };
    (role, verb, on)
        .prop_map(move |(role, verb, on)| format!("role: {role}, {what}: [{verb}], on: [{on}]"))
}

fn build(rules: &[String], prefix: &str) -> Policy {
    let rules: Vec<String> = rules
        .iter()
        .enumerate()
        .map(|(number, rule)| format!("  - {{id: {prefix}{number:02}, {rule}}}\n"))
        .collect();
    policy(&rules.concat())
}

fn verdict(policy: &Policy, who: &str, effects: &[Effect]) -> bool {
    decide(policy, who, "shop", effects).is_allow()
}

proptest! {
    #[test]
    fn adding_a_deny_and_removing_an_allow_never_widen(
        rules in prop::collection::vec((0..2_u8).prop_flat_map(|deny| rule(deny == 1)), 1..8),
        deny in rule(true),
        who in prop::sample::select(vec!["analyst", "loader", "both", "nobody"]),
        effects in prop::collection::vec(effect(), 0..4),
    ) {
        let full = verdict(&build(&rules, "r"), who, &effects);
        let mut more = rules.clone();
        more.push(deny);
        prop_assert!(full || !verdict(&build(&more, "r"), who, &effects));
        for left_out in 0..rules.len() {
            if rules[left_out].contains("allow:") && rules.len() > 1 {
                let mut fewer = rules.clone();
                fewer.remove(left_out);
                prop_assert!(full || !verdict(&build(&fewer, "r"), who, &effects));
            }
        }
    }

    #[test]
    fn order_and_files_mean_nothing(
        rules in prop::collection::vec((0..2_u8).prop_flat_map(|deny| rule(deny == 1)), 2..8),
        cut in 1..7_usize,
        who in prop::sample::select(vec!["analyst", "loader", "both"]),
        effects in prop::collection::vec(effect(), 0..4),
    ) {
        let lines: Vec<String> = rules
            .iter()
            .enumerate()
            .map(|(number, rule)| format!("  - {{id: r{number}, {rule}}}\n"))
            .collect();
        let forward = policy(&lines.concat());
        let mut turned = lines.clone();
        turned.reverse();
        let (a, b) = turned.split_at(cut.min(turned.len() - 1));
        let a = format!("version: 1\nrules:\n{}", a.concat());
        let b = format!("{HEAD}rules:\n{}", b.concat());
        let (backward, _) = Policy::from_texts([("a", a.as_str()), ("b", b.as_str())], 7)
            .expect("the same rules");
        let one = decide(&forward, who, "shop", &effects);
        let other = decide(&backward, who, "shop", &effects);
        prop_assert_eq!(one.is_allow(), other.is_allow());
        if let (Decision::Allow(one), Decision::Allow(other)) = (&one, &other) {
            let ids = |permit: &Permit| permit.rules().iter().map(|r| r.id.clone()).collect::<Vec<_>>();
            prop_assert_eq!(ids(one), ids(other));
        }
        if let (Decision::Deny(one), Decision::Deny(other)) = (&one, &other) {
            prop_assert_eq!(one.message(), other.message());
        }
    }

    /// The index against the definition, read off the rules one by one.
    #[test]
    fn the_index_agrees_with_the_definition(
        rules in prop::collection::vec((0..2_u8).prop_flat_map(|deny| rule(deny == 1)), 1..8),
        effects in prop::collection::vec(effect(), 0..4),
    ) {
        let policy = build(&rules, "r");
        let one_by_one: Vec<(bool, Policy)> = rules
            .iter()
            .map(|rule| {
                // A deny rule alone denies nothing that is not denied already: turn it around.
                let denies = rule.contains("deny:");
                (denies, build(&[rule.replace("deny:", "allow:")], "r"))
            })
            .collect();
        let touches = |rule: &Policy, effect: &Effect| {
            let whole = verdict(rule, "both", std::slice::from_ref(effect));
            match &effect.object {
                Object::Path(path) if !path.contains('.') => {
                    whole || ["a", "b", "\"A.b\""].iter().any(|name| {
                        let inside = format!("{path}.{name}");
                        verdict(rule, "both", &[Effect::on_path(effect.verb, inside)])
                    })
                }
                Object::Path(_) => whole,
                // Only what names the verb on everything.
                Object::Service => verdict(rule, "both", &[Effect::on_path(effect.verb, "q.q")]),
            }
        };
        let allowed = |effect: &Effect| {
            one_by_one.iter().any(|(denies, rule)| {
                !denies && verdict(rule, "both", std::slice::from_ref(effect))
            })
        };
        let denied = |effect: &Effect| {
            one_by_one.iter().any(|(denies, rule)| *denies && touches(rule, effect))
        };
        let any = one_by_one.iter().any(|(denies, rule)| !denies && verdict(rule, "both", &[]));
        let expected = any && effects.iter().all(|effect| allowed(effect) && !denied(effect));
        prop_assert_eq!(verdict(&policy, "both", &effects), expected);
    }
}

fn time_of(policy: &Policy, effects: &[Effect]) -> Duration {
    let (principal, service) = (principal("analyst"), ServiceName::from("shop"));
    let request = Request {
        principal: &principal,
        service: &service,
        effects,
    };
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..100 {
            std::hint::black_box(policy.decide(std::hint::black_box(&request)));
        }
        best = best.min(start.elapsed() / 100);
    }
    best
}

/// Run with `--release --ignored`: the debug build is several times slower.
#[test]
#[ignore = "a measurement, for the release profile"]
fn speed() {
    for (count, kind, limit) in [
        (20, "public.t{}", Duration::from_micros(1)),
        (2_000, "public.t{}", Duration::from_micros(20)),
        (20, "public.t{}x*", Duration::from_micros(1)),
        (2_000, "public.t{}x*", Duration::from_micros(20)),
        (20, "p*{}.t", Duration::from_micros(1)),
        (2_000, "p*{}.t", Duration::from_micros(20)),
    ] {
        let rules: Vec<String> = (0..count)
            .map(|n: u32| {
                let what = if n.is_multiple_of(4) { "deny" } else { "allow" };
                let on = kind.replace("{}", &n.to_string());
                format!(
                    "  - {{id: r{n}, role: analyst, {what}: [sql.select], on: ['shop/{on}']}}\n"
                )
            })
            .collect();
        let start = Instant::now();
        let policy = policy(&rules.concat());
        let loading = start.elapsed();
        let object = kind.replace("{}", "13").replace('*', "y");
        let time = time_of(&policy, &[on("sql.select", &object)]);
        println!("{count} rules on {kind}: {time:?}, loaded in {loading:?}");
        assert!(time < limit, "{count} {kind}: {time:?}");
    }
}
