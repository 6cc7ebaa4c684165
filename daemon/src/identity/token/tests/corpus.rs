//! Forged and broken tokens, each with the reason that it must be refused for. This list
//! only grows.

use std::collections::HashSet;

use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};

use super::stage::*;
use crate::identity::token::{Part, TokenRefusal, Verifier};
use crate::types::Secret;

type Case = (&'static str, String, TokenRefusal);

/// Signed with the issuer's own RSA key, with this said in the header besides.
fn headed(changes: Value) -> String {
    token(&RSA, &merged(header("RS256", "rsa"), changes), &claims())
}

/// Signed with the issuer's own RSA key, with these claims changed.
fn claiming(changes: Value) -> String {
    token(&RSA, &header("RS256", "rsa"), &claims_with(changes))
}

/// Signed with HMAC, where the public key serves as the secret.
fn with_public_key_as_secret(alg: &str, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signed = format!(
        "{}.{}",
        base64(header(alg, "rsa").to_string()),
        base64(claims().to_string())
    );
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64(tag))
}

fn unsigned(alg: &str) -> String {
    let header = header(alg, "rsa").to_string();
    format!("{}.{}.", base64(header), base64(claims().to_string()))
}

fn part(token: &str, nth: usize) -> &str {
    token.split('.').nth(nth).expect("a part")
}

fn algorithms() -> Vec<Case> {
    use TokenRefusal::*;
    let n = RSA.jwk("rsa", json!({})).to_string();
    let confused = |name, alg, kid| {
        let token = token(&RSA, &header(alg, kid), &claims());
        (name, token, OtherAlgorithm)
    };
    vec![
        ("alg none", unsigned("none"), NotSigned),
        ("alg None", unsigned("None"), NotSigned),
        ("alg NONE", unsigned("NONE"), NotSigned),
        ("alg nOnE", unsigned("nOnE"), NotSigned),
        ("alg empty", unsigned(""), UnknownAlgorithm),
        (
            "alg none with a good signature",
            headed(json!({"alg": "none"})),
            NotSigned,
        ),
        ("no alg", headed(json!({"alg": null})), UnknownAlgorithm),
        (
            "alg a number",
            headed(json!({"alg": 256})),
            UnknownAlgorithm,
        ),
        (
            "alg a list",
            headed(json!({"alg": ["RS256"]})),
            UnknownAlgorithm,
        ),
        (
            "alg in small letters",
            headed(json!({"alg": "rs256"})),
            UnknownAlgorithm,
        ),
        (
            "alg with a space",
            headed(json!({"alg": "RS256 "})),
            UnknownAlgorithm,
        ),
        (
            "alg PS256",
            headed(json!({"alg": "PS256"})),
            UnknownAlgorithm,
        ),
        (
            "alg ES256K",
            headed(json!({"alg": "ES256K"})),
            UnknownAlgorithm,
        ),
        (
            "HS256 with the public key",
            with_public_key_as_secret("HS256", n.as_bytes()),
            SharedSecret,
        ),
        (
            "HS512 with the public key",
            with_public_key_as_secret("HS512", n.as_bytes()),
            SharedSecret,
        ),
        (
            "hs256",
            with_public_key_as_secret("hs256", b"secret"),
            SharedSecret,
        ),
        (
            "HMAC that calls itself RS256",
            with_public_key_as_secret("RS256", n.as_bytes()),
            BadSignature,
        ),
        confused("RS512 by a key for RS256", "RS512", "rsa"),
        confused("ES256 by an RSA key", "ES256", "rsa"),
        confused("EdDSA by an RSA key", "EdDSA", "rsa-any"),
        confused("RS256 by a P-256 key", "RS256", "p256"),
        confused("ES256 by a P-384 key", "ES256", "p384"),
        confused("ES384 by a P-256 key", "ES384", "p256"),
        confused("RS256 by an Ed25519 key", "RS256", "ed"),
    ]
}

fn keys() -> Vec<Case> {
    use TokenRefusal::*;
    let kid = |kid: &str| headed(json!({"kid": kid}));
    let jwk = STRANGER.jwk("rsa", json!({}));
    let own = |name, value: Value| {
        let mut header = header("RS256", "rsa");
        header[name] = value;
        (name, token(&STRANGER, &header, &claims()), OwnKey(name))
    };
    vec![
        (
            "a stranger's key",
            token(&STRANGER, &header("RS256", "rsa"), &claims()),
            BadSignature,
        ),
        ("kid of a file", kid("../../../../etc/passwd"), UnknownKey),
        ("kid of a device", kid("/dev/null"), UnknownKey),
        (
            "kid of SQL",
            kid("x' UNION SELECT 'secret' -- "),
            UnknownKey,
        ),
        ("kid of a command", kid("rsa|id"), UnknownKey),
        ("kid with a zero byte", kid("rsa\0"), UnknownKey),
        ("kid of another case", kid("RSA"), UnknownKey),
        ("kid of a shared secret", kid("shared"), UnknownKey),
        ("kid of an odd curve", kid("odd"), UnknownKey),
        ("kid that is empty", kid(""), BadKeyId),
        ("kid that is long", kid(&"k".repeat(257)), BadKeyId),
        (
            "kid of 1 MiB",
            kid(&"k".repeat(1 << 20)),
            TooLong { longest: 16384 },
        ),
        ("kid that is a number", headed(json!({"kid": 1})), BadKeyId),
        (
            "kid that is a list",
            headed(json!({"kid": ["rsa"]})),
            BadKeyId,
        ),
        ("no kid", headed(json!({"kid": null})), NoKeyId),
        ("a key for encryption", kid("rsa-enc"), KeyNotForSignatures),
        ("a key for wrapping", kid("rsa-wrap"), KeyNotForSignatures),
        own("jwk", jwk.clone()),
        own("jku", json!("https://evil.example/jwks")),
        own("x5u", json!("https://evil.example/cert")),
        own("x5c", json!(["MIIB"])),
        (
            "jwk that is the issuer's",
            headed(json!({"jwk": RSA.jwk("rsa", json!({}))})),
            OwnKey("jwk"),
        ),
        ("crit", headed(json!({"crit": ["exp"]})), Extension("crit")),
        (
            "crit that is empty",
            headed(json!({"crit": []})),
            Extension("crit"),
        ),
        ("b64", headed(json!({"b64": false})), Extension("b64")),
        ("zip", headed(json!({"zip": "DEF"})), Compressed),
        ("nested", headed(json!({"cty": "JWT"})), Nested),
        (
            "a logout token",
            headed(json!({"typ": "logout+jwt"})),
            OtherType,
        ),
        (
            "a DPoP proof",
            headed(json!({"typ": "dpop+jwt"})),
            OtherType,
        ),
        (
            "a security event",
            headed(json!({"typ": "secevent+jwt"})),
            OtherType,
        ),
        ("typ a number", headed(json!({"typ": 1})), OtherType),
    ]
}

fn times() -> Vec<Case> {
    use TokenRefusal::*;
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

fn parties() -> Vec<Case> {
    use TokenRefusal::*;
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

fn texts() -> Vec<Case> {
    use TokenRefusal::*;
    let good = good();
    let [head, body, tail] = [0, 1, 2].map(|nth| part(&good, nth).to_owned());
    let other = claiming(json!({"sub": "root"}));
    let raw_header = |text: &str| raw(&RSA, "RS256", text, &claims().to_string());
    let raw_claims = |text: &str| raw(&RSA, "RS256", &header("RS256", "rsa").to_string(), text);
    let twice = claims().to_string().replacen('{', "{\"sub\":\"root\",", 1);
    let deep = format!("{{\"a\":{}", "[".repeat(5000));
    vec![
        ("nothing", String::new(), NotThreeParts),
        ("one dot", format!("{head}.{body}"), NotThreeParts),
        ("three dots", format!("{good}."), NotThreeParts),
        (
            "encrypted",
            format!("{head}.{body}.{tail}.{tail}.{tail}"),
            Encrypted,
        ),
        ("six parts", format!("{good}.{good}"), NotThreeParts),
        ("1 MiB", "a".repeat(1 << 20), TooLong { longest: 16384 }),
        (
            "claims of 1 MiB",
            claiming(json!({"x": "y".repeat(1 << 20)})),
            TooLong { longest: 16384 },
        ),
        ("no signature", format!("{head}.{body}."), BadSignature),
        (
            "a cut signature",
            good[..good.len() - 2].into(),
            BadSignature,
        ),
        (
            "a cut claim",
            format!("{head}.{}.{tail}", &body[..body.len() - 4]),
            NotJson(Part::Claims),
        ),
        (
            "another token's signature",
            format!("{head}.{body}.{}", part(&other, 2)),
            BadSignature,
        ),
        (
            "another token's claims",
            format!("{head}.{}.{tail}", part(&other, 1)),
            BadSignature,
        ),
        (
            "padding in the header",
            format!("{head}=.{body}.{tail}"),
            NotBase64(Part::Header),
        ),
        (
            "padding in the claims",
            format!("{head}.{body}==.{tail}"),
            NotBase64(Part::Claims),
        ),
        (
            "padding at the end",
            format!("{good}=="),
            NotBase64(Part::Signature),
        ),
        (
            "a newline at the end",
            format!("{good}\n"),
            NotBase64(Part::Signature),
        ),
        (
            "a space before",
            format!(" {good}"),
            NotBase64(Part::Header),
        ),
        (
            "a space within",
            format!("{head}.{body} .{tail}"),
            NotBase64(Part::Claims),
        ),
        (
            "not the URL's alphabet",
            format!("{head}.{body}.+/{}", &tail[2..]),
            NotBase64(Part::Signature),
        ),
        (
            "Bearer before",
            format!("Bearer {good}"),
            NotBase64(Part::Header),
        ),
        ("sub twice", raw_claims(&twice), Duplicate(Part::Claims)),
        (
            "alg twice",
            raw_header(r#"{"alg":"RS256","kid":"rsa","alg":"none"}"#),
            Duplicate(Part::Header),
        ),
        (
            "kid twice, once escaped",
            raw_header(r#"{"alg":"RS256","kid":"rsa","k\u0069d":"x"}"#),
            Duplicate(Part::Header),
        ),
        ("header a list", raw_header("[]"), NotJson(Part::Header)),
        (
            "header no JSON",
            raw_header("{'alg':'RS256'}"),
            NotJson(Part::Header),
        ),
        ("claims a text", raw_claims("\"x\""), NotJson(Part::Claims)),
        (
            "claims and more",
            raw_claims(&format!("{}{{}}", claims())),
            NotJson(Part::Claims),
        ),
        (
            "claims not UTF-8",
            {
                let signed = format!("{head}.{}", base64(b"{\"sub\":\"\xff\"}"));
                format!("{signed}.{}", base64(RSA.sign("RS256", signed.as_bytes())))
            },
            NotJson(Part::Claims),
        ),
        ("claims very deep", raw_claims(&deep), NotJson(Part::Claims)),
    ]
}

fn corpus() -> Vec<Case> {
    [algorithms(), keys(), times(), parties(), texts()].concat()
}

#[test]
fn every_forged_token_is_refused_for_its_own_reason() {
    assert!(verdict(&good()).is_ok());
    for (name, token, reason) in corpus() {
        assert_eq!(verdict(&token).expect_err(name), reason, "{name}");
    }
}

#[test]
fn the_verifier_refuses_the_corpus_for_the_same_reasons() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, jwks().to_string()).expect("writes");
    let mut settings = settings();
    settings.jwks_file = Some(file);
    let verifier = Verifier::new(vec![settings]).expect("settings");
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().expect("a runtime");
    let verify = |token: &str| runtime.block_on(verifier.verify(&Secret::new(token.into()), NOW));
    assert!(verify(&good()).is_ok());
    for (name, token, reason) in corpus() {
        assert_eq!(verify(&token).expect_err(name), reason, "{name}");
    }
}

/// A reason without a token that shows it is a reason that nobody has tried.
#[test]
fn every_reason_is_in_the_corpus() {
    let shown: HashSet<_> = corpus()
        .iter()
        .map(|(_, _, reason)| std::mem::discriminant(reason))
        .collect();
    // Those that depend on the settings or the issuer are shown elsewhere:
    // AlgorithmNotAccepted, TooOld, NoKeys.
    let reasons = include_str!("../refusal.rs").matches("#[error(").count();
    assert_eq!(shown.len() + 3, reasons);
}

#[test]
fn a_refusal_never_repeats_the_token() {
    for (name, token, reason) in corpus() {
        let said = reason.to_string();
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!said.contains(part), "{name}: {said}");
        }
        for claimed in ["evil", "passwd", "UNION", "root"] {
            assert!(!said.contains(claimed), "{name}: {said}");
        }
        assert!(said.len() < 120 && !said.contains('\n'), "{name}: {said}");
    }
}

#[test]
fn no_character_of_a_token_can_be_changed() {
    let token = token(&ED, &header("EdDSA", "ed"), &claims());
    assert!(verdict(&token).is_ok());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= ";
    let mut bytes = token.clone().into_bytes();
    for at in 0..bytes.len() {
        let original = bytes[at];
        for byte in alphabet.iter().filter(|byte| **byte != original) {
            bytes[at] = *byte;
            let text = std::str::from_utf8(&bytes).expect("ASCII");
            assert!(verdict(text).is_err(), "{at}: {text}");
        }
        bytes[at] = original;
    }
}

proptest! {
    #[test]
    fn no_changed_token_is_genuine(
        which in 0..5_usize,
        at in any::<prop::sample::Index>(),
        length in 0..4_usize,
        new in "[A-Za-z0-9_.=+/é-]{0,4}",
    ) {
        let (signer, alg, kid) = [
            (&*RSA, "RS256", "rsa"), (&RSA, "RS512", "rsa-any"), (&P256, "ES256", "p256"),
            (&P384, "ES384", "p384"), (&ED, "EdDSA", "ed"),
        ][which];
        let good = token(signer, &header(alg, kid), &claims());
        prop_assert!(verdict(&good).is_ok());
        let from = at.index(good.len());
        let to = (from + length).min(good.len());
        let mut changed = good.clone();
        changed.replace_range(from..to, &new);
        prop_assume!(changed != good);
        prop_assert!(verdict(&changed).is_err(), "{}", changed);
    }

    /// Whatever comes: an answer, no panic.
    #[test]
    fn no_text_breaks_the_parser(
        header in "\\PC{0,40}|[\\[{:,\"a1.]{0,40}", claims in ".{0,40}", text in "\\PC{0,80}",
    ) {
        prop_assert!(verdict(&text).is_err());
        let forged = format!("{}.{}.{}", base64(header), base64(claims), text);
        prop_assert!(verdict(&forged).is_err());
    }
}
