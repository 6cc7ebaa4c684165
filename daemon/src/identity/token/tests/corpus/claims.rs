//! What a genuine token may say that opens nothing.

use serde_json::{Value, json};

use super::super::stage::*;
use super::{Case, claiming};
use crate::identity::token::TokenRefusal::*;

pub(super) fn times() -> Vec<Case> {
    let exp = |exp: Value| claiming(json!({"exp": exp}));
    let long = json!({"iat": NOW - 5000, "exp": NOW - 60});
    vec![
        ("expired", claiming(long), Expired { ago: 60 }),
        (
            "expired long ago",
            claiming(json!({"iat": 1, "exp": 2})),
            Expired { ago: NOW - 2 },
        ),
        (
            "not yet valid",
            claiming(json!({"nbf": NOW + 61})),
            NotYetValid { wait: 61 },
        ),
        (
            "issued in the future",
            claiming(json!({"iat": NOW + 61})),
            IssuedInFuture { ahead: 61 },
        ),
        ("no exp", claiming(json!({"exp": null})), Missing("exp")),
        ("no iat", claiming(json!({"iat": null})), Missing("iat")),
        (
            "exp a text",
            exp(json!((NOW + 300).to_string())),
            NotATime("exp"),
        ),
        ("exp a float", exp(json!(1_800_000_300.5)), NotATime("exp")),
        ("exp in exponents", exp(json!(1e300)), NotATime("exp")),
        ("exp negative", exp(json!(-1)), NotATime("exp")),
        ("exp huge", exp(json!(u64::MAX)), NotATime("exp")),
        (
            "exp in milliseconds",
            exp(json!((NOW + 300) * 1000)),
            NotATime("exp"),
        ),
        ("exp true", exp(json!(true)), NotATime("exp")),
        ("exp a list", exp(json!([NOW + 300])), NotATime("exp")),
        ("iat a text", claiming(json!({"iat": "0"})), NotATime("iat")),
        ("nbf a text", claiming(json!({"nbf": "0"})), NotATime("nbf")),
        (
            "nbf negative",
            claiming(json!({"nbf": -1})),
            NotATime("nbf"),
        ),
        (
            "exp at iat",
            claiming(json!({"exp": NOW - 10})),
            ExpiresFirst,
        ),
        (
            "exp before iat",
            claiming(json!({"iat": NOW, "exp": NOW - 1})),
            ExpiresFirst,
        ),
    ]
}

pub(super) fn parties() -> Vec<Case> {
    let aud = |aud: Value| claiming(json!({"aud": aud}));
    let iss = |iss: &str| claiming(json!({"iss": iss}));
    let two = json!(["portcullis", "other"]);
    vec![
        ("another audience", aud(json!("other")), OtherAudience),
        (
            "other audiences",
            aud(json!(["other", "portcullis2"])),
            OtherAudience,
        ),
        ("no audience in the list", aud(json!([])), OtherAudience),
        (
            "an audience of another case",
            aud(json!("Portcullis")),
            OtherAudience,
        ),
        (
            "an audience that begins alike",
            aud(json!("portcullis.evil")),
            OtherAudience,
        ),
        (
            "no audience",
            claiming(json!({"aud": null})),
            Missing("aud"),
        ),
        (
            "audience an object",
            aud(json!({"portcullis": 1})),
            WrongKind("aud"),
        ),
        (
            "audience with a number",
            aud(json!(["portcullis", 1])),
            WrongKind("aud"),
        ),
        ("two audiences, no azp", aud(two.clone()), NoClient),
        (
            "two audiences, azp of neither",
            claiming(json!({"aud": two, "azp": "evil"})),
            OtherClient,
        ),
        (
            "azp a list",
            claiming(json!({"azp": ["portcullis"]})),
            WrongKind("azp"),
        ),
        ("another issuer", iss("https://evil.example"), UnknownIssuer),
        (
            "an issuer with a slash",
            iss(&format!("{ISSUER}/")),
            UnknownIssuer,
        ),
        (
            "an issuer by http",
            iss("http://idp.example/realms/agents"),
            UnknownIssuer,
        ),
        (
            "an issuer of another case",
            iss(&ISSUER.to_uppercase()),
            UnknownIssuer,
        ),
        (
            "an issuer with a port",
            iss("https://idp.example:443/realms/agents"),
            UnknownIssuer,
        ),
        ("no issuer", claiming(json!({"iss": null})), Missing("iss")),
        (
            "issuer a list",
            claiming(json!({"iss": [ISSUER]})),
            WrongKind("iss"),
        ),
        ("no subject", claiming(json!({"sub": null})), Missing("sub")),
        (
            "subject empty",
            claiming(json!({"sub": ""})),
            WrongKind("sub"),
        ),
        (
            "subject a number",
            claiming(json!({"sub": 7})),
            WrongKind("sub"),
        ),
        (
            "subject with a line break",
            claiming(json!({"sub": "a\nroot"})),
            BadName,
        ),
        (
            "subject long",
            claiming(json!({"sub": "x".repeat(257)})),
            BadName,
        ),
        (
            "groups an object",
            claiming(json!({"groups": {"dba": true}})),
            WrongKind("groups"),
        ),
        (
            "groups with a number",
            claiming(json!({"groups": ["dba", 1]})),
            WrongKind("groups"),
        ),
    ]
}
