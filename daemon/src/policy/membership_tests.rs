use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::policy::Policy;
use crate::types::{Principal, Proof, RoleName, TokenFacts};

const POLICY: &str = "
version: 1
roles:
  analyst: {when: {issuer: https://idp.example, audience: portcullis, groups: [a1, a2], max_age: 1h}}
  dba:
    when:
      - {issuer: [https://idp.example, https://other.example], groups: dba}
      - {issuer: https://idp.example, subject: root, max_age: 10m}
      - {as: [boss]}
  night: {when: {issuer: https://idp.example, claims: {shift: night, site: [a, b]}}}
  etl: {when: {cgroup: /agents.slice/etl-*.service}}
  batch: {when: {cgroup: [/agents.slice/**, /agents.slice/etl-9.service]}}
  plain: {}
";

fn load(text: &str) -> Result<Policy, String> {
    Policy::from_texts([("p.yaml", text)], 1)
        .map(|(policy, _)| policy)
        .map_err(|errors| errors.to_string())
}

fn policy() -> Policy {
    load(POLICY).expect("loads")
}

fn facts() -> TokenFacts {
    TokenFacts {
        issuer: "https://idp.example".into(),
        subject: "agent-7".into(),
        audience: vec!["other".into(), "portcullis".into()],
        groups: Vec::new(),
        issued: 1_000_000,
        expires: 1_086_400,
        claims: BTreeMap::new(),
    }
}

fn bearer(facts: TokenFacts) -> Principal {
    Principal {
        name: facts.subject.as_str().into(),
        proof: Proof::Token(facts.into()),
        only: None,
    }
}

fn with_groups(groups: &[&str]) -> Principal {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    bearer(TokenFacts { groups, ..facts() })
}

fn roles(policy: &Policy, principal: &Principal) -> Vec<String> {
    let roles = policy.roles_of(principal);
    roles.iter().map(ToString::to_string).collect()
}

#[test]
fn a_token_brings_the_roles_whose_conditions_all_hold() {
    let policy = policy();
    assert_eq!(roles(&policy, &with_groups(&["a2", "x"])), ["analyst"]);
    assert_eq!(
        roles(&policy, &with_groups(&["dba", "a1"])),
        ["analyst", "dba"]
    );
    assert!(roles(&policy, &with_groups(&["x"])).is_empty());
    let elsewhere = |change: fn(&mut TokenFacts)| {
        let mut facts = TokenFacts {
            groups: vec!["a1".into()],
            ..facts()
        };
        change(&mut facts);
        roles(&policy, &bearer(facts))
    };
    assert_eq!(elsewhere(|_| {}), ["analyst"]);
    assert!(elsewhere(|facts| facts.issuer = "https://idp.example/".into()).is_empty());
    assert!(elsewhere(|facts| facts.issuer = "https://other.example".into()).is_empty());
    assert!(elsewhere(|facts| facts.audience = vec!["other".into()]).is_empty());
}

#[test]
fn every_claim_that_is_named_must_have_one_of_its_values() {
    let policy = policy();
    for (claims, expected) in [
        (&[("shift", "night"), ("site", "b")][..], true),
        (&[("shift", "night"), ("site", "c")], false),
        (&[("shift", "night")], false),
        (&[("shift", "day"), ("site", "a")], false),
    ] {
        let claims = claims.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let principal = bearer(TokenFacts {
            claims: claims.collect(),
            ..facts()
        });
        assert_eq!(!roles(&policy, &principal).is_empty(), expected);
    }
}

#[test]
fn a_name_is_worth_nothing_where_another_proof_is_asked_for() {
    let policy = policy();
    // Somebody's word is no token and no cgroup, and the other way round.
    for name in [
        "analyst",
        "etl",
        "night",
        "agent-7",
        "dba",
        "/agents.slice/**",
    ] {
        assert!(roles(&policy, &Principal::named(name)).is_empty(), "{name}");
    }
    assert_eq!(roles(&policy, &Principal::named("boss")), ["dba"]);
    assert_eq!(roles(&policy, &Principal::named("plain")), ["plain"]);
    for name in ["boss", "plain"] {
        let subject = name.to_owned();
        let principal = bearer(TokenFacts { subject, ..facts() });
        assert!(roles(&policy, &principal).is_empty(), "{name}");
        let principal = Principal {
            proof: Proof::Cgroup("/elsewhere".into()),
            ..Principal::named(name)
        };
        assert!(roles(&policy, &principal).is_empty(), "{name}");
    }
}

#[test]
fn the_most_specific_pattern_binds_a_cgroup() {
    let policy = policy();
    for (path, pattern, expected) in [
        (
            "/agents.slice/etl-1.service",
            "/agents.slice/etl-*.service",
            "etl",
        ),
        (
            "/agents.slice/etl-9.service",
            "/agents.slice/etl-9.service",
            "batch",
        ),
        ("/agents.slice/other", "/agents.slice/**", "batch"),
        ("/agents.slice/etl-1.service/x", "/agents.slice/**", "batch"),
    ] {
        let binding = policy.binding_for(path).expect(path);
        assert_eq!(&*binding.pattern, pattern, "{path}");
        assert_eq!(binding.roles, [RoleName::from(expected)], "{path}");
        let principal = Principal {
            name: "x".into(),
            proof: Proof::Cgroup(binding.pattern),
            only: None,
        };
        assert_eq!(roles(&policy, &principal), [expected], "{path}");
    }
    assert_eq!(policy.binding_for("/system.slice/x"), None);
    assert_eq!(policy.binding_for("agents.slice/etl-1.service"), None);
}

#[test]
fn patterns_that_tie_are_a_load_error_unless_they_mean_the_same() {
    let two = |first: &str, second: &str| {
        load(&format!(
            "version: 1\nroles:\n  one: {{when: {{cgroup: {first}}}}}\n  two: {{when: {{cgroup: {second}}}}}\n"
        ))
    };
    let error = two("/a/*/c", "/a/b/*").expect_err("a tie");
    for part in [
        "p.yaml:4:24: error: `/a/b/*` and `/a/*/c` match the same cgroups",
        "the other is at p.yaml:3",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let policy = two("/a/b", "/a/b").expect("one pattern, two roles");
    assert_eq!(policy.binding_for("/a/b").expect("bound").roles.len(), 2);
    two("/a/*/c", "/x/b/*").expect("no path matches both");
    two("/a/b*", "/a/*bc").expect("one says more");
}

#[test]
fn a_session_ends_with_the_first_of_its_roles() {
    let policy = policy();
    let hour = Some(1_003_600);
    assert_eq!(policy.lifetime(&with_groups(&["a1"])), hour);
    assert_eq!(policy.lifetime(&with_groups(&["dba"])), Some(1_086_400));
    assert_eq!(policy.lifetime(&with_groups(&["dba", "a1"])), hour);
    assert_eq!(policy.lifetime(&with_groups(&[])), Some(1_086_400));
    // Two ways to one role: the longer one counts.
    let root = |groups: &[&str]| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let subject = "root".into();
        bearer(TokenFacts {
            subject,
            groups,
            ..facts()
        })
    };
    assert_eq!(policy.lifetime(&root(&[])), Some(1_000_600));
    assert_eq!(policy.lifetime(&root(&["dba"])), Some(1_086_400));
    // A narrowed session is not ended by a role that it does not have.
    let narrowed = Principal {
        only: Some([RoleName::from("dba")].into()),
        ..with_groups(&["dba", "a1"])
    };
    assert_eq!(policy.lifetime(&narrowed), Some(1_086_400));
    assert_eq!(policy.lifetime(&Principal::named("plain")), None);
    let early = TokenFacts {
        groups: vec!["a1".into()],
        expires: 1_000_060,
        ..facts()
    };
    assert_eq!(policy.lifetime(&bearer(early)), Some(1_000_060));
}

#[test]
fn what_cant_be_meant_is_refused_with_its_place() {
    // The place is where the `@` is.
    for (marked, said, help) in [
        ("@{}", "`when` says nothing", "`issuer`"),
        ("@[]", "`when` is an empty list", ""),
        (
            "@{groups: [a]}",
            "`when` speaks of a token and names no `issuer`",
            "another issuer",
        ),
        (
            "{as: [x], issuer: @https://i}",
            "`as` and `issuer` in one `when`",
            "make it a list",
        ),
        (
            "{as: [x], cgroup: @/x}",
            "`as` and `cgroup` in one `when`",
            "make it a list",
        ),
        (
            "{cgroup: /x, groups: @[x]}",
            "`cgroup` and `groups` in one `when`",
            "make it a list",
        ),
        (
            "{cgroup: @x}",
            "`x` is not the absolute path of a cgroup",
            "/agents.slice",
        ),
        (
            "{cgroup: [/a, @/b/../c]}",
            "`/b/../c` is not the plain path of a cgroup",
            "no `//`",
        ),
        ("{cgroup: @[]}", "`cgroup` is an empty list", ""),
        (
            "{issuer: https://i, max_age: @1}",
            "`max_age` is text, not a number",
            "quotes",
        ),
        (
            "{issuer: https://i, max_age: @1y}",
            "`1y` is not a length of time",
            "1h",
        ),
        (
            "{issuer: https://i, groups: @[]}",
            "`groups` is an empty list",
            "",
        ),
        ("{issuer: https://i, claims: @{}}", "`claims` is empty", ""),
        (
            "{issuer: https://i, claims: {@sub: x}}",
            "`sub` is no claim to compare here",
            "`subject`",
        ),
        (
            "{issuer: https://i, claims: {n: @1}}",
            "claim `n` is text, not a number",
            "quotes",
        ),
        (
            "{@isuer: https://i}",
            "unknown field `isuer` of `when`",
            "`issuer`",
        ),
        ("[{as: [x]}, @{}]", "`when` says nothing", "`issuer`"),
    ] {
        let text = format!("version: 1\nroles: {{r: {{when: {marked}}}}}\n");
        let column = text.find('@').expect("a mark") - "version: 1\n".len() + 1;
        let error = load(&text.replace('@', "")).expect_err(marked);
        let said = format!("p.yaml:2:{column}: error: {said}");
        assert!(error.contains(&said), "{marked}: {said} in {error}");
        assert!(error.contains(help), "{marked}: {error}");
    }
}

proptest! {
    #[test]
    fn narrowing_never_widens(
        groups in prop::collection::vec("a1|a2|dba|x", 0..4),
        only in prop::collection::vec("analyst|dba|night|etl|plain|nobody", 0..4),
        by_word in "boss|plain|etl|x",
    ) {
        let policy = policy();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let only: Vec<RoleName> = only.iter().map(|role| role.as_str().into()).collect();
        for wide in [with_groups(&groups), Principal::named(&by_word)] {
            let narrow = Principal { only: Some(only.as_slice().into()), ..wide.clone() };
            let (all, less) = (policy.roles_of(&wide), policy.roles_of(&narrow));
            let expected: Vec<_> = all.into_iter().filter(|role| only.contains(role)).collect();
            prop_assert_eq!(less, expected);
        }
    }
}
