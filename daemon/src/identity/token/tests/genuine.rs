//! Tokens that are good, and what they and the settings must say for that.

use serde_json::json;

use super::stage::*;
use crate::identity::token::{Algorithm, IssuerSettings, TokenRefusal, Verifier};
use crate::types::{Principal, Proof, TokenFacts};

fn facts(principal: &Principal) -> &TokenFacts {
    match &principal.proof {
        Proof::Token(facts) => facts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_genuine_token_gives_a_principal_with_its_facts() {
    let principal = verdict(&good()).expect("genuine");
    assert_eq!(&*principal.name, "agent-7");
    assert_eq!(principal.only, None);
    let facts = facts(&principal);
    assert_eq!(facts.issuer, ISSUER);
    assert_eq!(facts.subject, "agent-7");
    assert_eq!(facts.audience, ["portcullis"]);
    assert_eq!(facts.groups, ["agents", "dba"]);
    assert_eq!((facts.issued, facts.expires), (NOW - 10, NOW + 300));
    let claims: Vec<_> = facts.claims.iter().collect();
    let claims: Vec<_> = claims
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let nbf = (NOW - 10).to_string();
    let expected = [
        ("email", "a@example.test"),
        ("human", "false"),
        ("level", "3"),
        ("nbf", nbf.as_str()),
    ];
    assert_eq!(claims, expected);
}

#[test]
fn each_algorithm_verifies_with_a_key_of_its_type() {
    for (signer, alg, kid) in [
        (&*RSA, "RS256", "rsa"),
        (&RSA, "RS256", "rsa-any"),
        (&RSA, "RS384", "rsa-any"),
        (&RSA, "RS512", "rsa-any"),
        (&P256, "ES256", "p256"),
        (&P384, "ES384", "p384"),
        (&ED, "EdDSA", "ed"),
    ] {
        let token = token(signer, &header(alg, kid), &claims());
        assert!(verdict(&token).is_ok(), "{alg}");
    }
}

#[test]
fn the_usual_types_and_an_absent_one_are_taken() {
    for typ in [
        json!("JWT"),
        json!("jwt"),
        json!("at+jwt"),
        json!("application/at+JWT"),
        json!(null),
    ] {
        let header = merged(header("RS256", "rsa"), json!({"typ": typ}));
        assert!(verdict(&token(&RSA, &header, &claims())).is_ok(), "{typ}");
    }
}

fn with(changes: serde_json::Value) -> String {
    token(&RSA, &header("RS256", "rsa"), &claims_with(changes))
}

fn configured(more: &str) -> IssuerSettings {
    let text = format!("{{issuer: '{ISSUER}', audience: portcullis, {more}}}");
    serde_saphyr::from_str(&text).expect("settings")
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    for changes in [
        json!({"iat": NOW - 500, "exp": NOW - 59}),
        json!({"nbf": NOW + 60}),
        json!({"iat": NOW + 60}),
        json!({"nbf": null}),
    ] {
        assert!(verdict(&with(changes.clone())).is_ok(), "{changes}");
    }
    let settings = configured("leeway: 1s");
    let late = with(json!({"iat": NOW - 500, "exp": NOW - 1}));
    let refused = verdict_with(&late, &settings).expect_err("late");
    assert_eq!(refused, TokenRefusal::Expired { ago: 1 });
}

#[test]
fn an_old_token_is_refused_where_an_age_is_set() {
    let settings = configured("max_age: 5m");
    for (age, fits) in [(359, true), (360, false)] {
        let token = with(json!({"iat": NOW - age}));
        let verdict = verdict_with(&token, &settings);
        let expected = TokenRefusal::TooOld { age };
        assert!(
            fits && verdict.is_ok() || verdict.err() == Some(expected),
            "{age}"
        );
    }
}

#[test]
fn a_configured_client_must_be_the_tokens() {
    let settings = configured("client: cli");
    let of = |azp| verdict_with(&with(json!({"azp": azp})), &settings).err();
    assert_eq!(of(json!("cli")), None);
    assert_eq!(of(json!("web")), Some(TokenRefusal::OtherClient));
    assert_eq!(of(json!(null)), Some(TokenRefusal::Missing("azp")));
    // Without it, one of several audiences must have asked.
    let several = json!({"aud": ["portcullis", "cli"], "azp": "cli"});
    assert!(verdict(&with(several)).is_ok());
}

#[test]
fn only_listed_algorithms_are_accepted() {
    let settings = configured("algorithms: [ES256, EdDSA]");
    assert_eq!(settings.algorithms, [Algorithm::ES256, Algorithm::EdDSA]);
    let refused = verdict_with(&good(), &settings);
    assert_eq!(refused.err(), Some(TokenRefusal::AlgorithmNotAccepted));
}

#[test]
fn groups_and_names_are_where_the_settings_say() {
    let token = with(json!({
        "realm_access": {"roles": ["a", "b"]}, "flat.name": "one", "preferred_username": "ann",
    }));
    for (claim, groups) in [
        ("realm_access.roles", &["a", "b"][..]),
        ("flat.name", &["one"]),
        ("absent", &[]),
        ("realm_access.absent", &[]),
        ("groups", &["agents", "dba"]),
    ] {
        let settings = configured(&format!(
            "groups_claim: {claim}, name_claim: preferred_username"
        ));
        let principal = verdict_with(&token, &settings).expect("genuine");
        assert_eq!(facts(&principal).groups, groups, "{claim}");
        assert_eq!(
            (&*principal.name, facts(&principal).subject.as_str()),
            ("ann", "agent-7")
        );
    }
    let settings = configured("groups_claim: realm_access");
    let refused = verdict_with(&token, &settings).err();
    assert_eq!(refused, Some(TokenRefusal::WrongKind("groups")));
    let settings = configured("name_claim: absent");
    let refused = verdict_with(&token, &settings).err();
    assert_eq!(refused, Some(TokenRefusal::BadName));
}

#[test]
fn settings_that_cant_be_right_are_refused() {
    for (text, said) in [
        ("issuer: 'http://idp.example', audience: a", "must be https"),
        (
            "issuer: 'ftp://idp.example', audience: a",
            "must be an https URL",
        ),
        ("issuer: 'https://idp.example?x', audience: a", "no query"),
        (
            "issuer: 'https://idp.example/#x', audience: a",
            "no query and no fragment",
        ),
        (
            "issuer: 'https://u:p@idp.example', audience: a",
            "user name",
        ),
        ("issuer: 'nonsense', audience: a", "must be an https URL"),
        ("issuer: 'https://i', audience: ''", "`audience` is empty"),
        (
            "issuer: 'https://i', audience: a, client: ''",
            "`client` is empty",
        ),
        (
            "issuer: 'https://i', audience: a, algorithms: []",
            "`algorithms`",
        ),
        ("issuer: 'https://i', audience: a, leeway: 6m", "`leeway`"),
        (
            "issuer: 'https://i', audience: a, jwks_file: x",
            "`jwks_file`",
        ),
        ("issuer: 'https://i', audience: a, ca: x", "`ca`"),
        (
            "issuer: 'https://i', audience: a, groups_claim: a..b",
            "`groups_claim`",
        ),
    ] {
        let settings = serde_saphyr::from_str(&format!("{{{text}}}")).expect(text);
        let error = Verifier::new(vec![settings]).expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let error = Verifier::new(vec![settings(), settings()]).expect_err("twice");
    assert!(error.to_string().contains("listed twice"), "{error}");
    for text in [
        "issuer: 'https://i'",
        "issuer: 'https://i', audience: a, algorithms: [HS256]",
        "issuer: 'https://i', audience: a, algorithms: [none]",
        "issuer: 'https://i', audience: a, jwks: x",
        "issuer: 'https://i', audience: a, leeway: 60",
    ] {
        let read = serde_saphyr::from_str::<IssuerSettings>(&format!("{{{text}}}"));
        assert!(read.is_err(), "{text}");
    }
    for host in ["127.0.0.1:9000", "[::1]:9000", "localhost"] {
        let mut settings = settings();
        settings.issuer = format!("http://{host}");
        assert!(Verifier::new(vec![settings]).is_ok(), "{host}");
    }
}
