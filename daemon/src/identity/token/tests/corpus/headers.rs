//! What a header may say to make us take another algorithm or another key.

use ring::hmac;
use serde_json::{Value, json};

use super::super::stage::*;
use super::{Case, headed};
use crate::identity::token::TokenRefusal::*;

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

pub(super) fn algorithms() -> Vec<Case> {
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

pub(super) fn keys() -> Vec<Case> {
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
