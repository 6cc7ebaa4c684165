//! An issuer's keys and the tokens that it, or somebody else, makes.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::super::judge;
use super::super::keys::KeySet;
use super::super::parse::Token;
use super::super::{IssuerSettings, TokenRefusal};
use crate::types::Principal;

pub(super) const ISSUER: &str = "https://idp.example/realms/agents";
pub(super) const NOW: i64 = 1_800_000_000;

pub(super) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub(super) static RSA: LazyLock<Signer> =
    LazyLock::new(|| rsa(include_str!("../fixtures/rsa-one.pem")));
/// A key that the issuer does not have.
pub(super) static STRANGER: LazyLock<Signer> =
    LazyLock::new(|| rsa(include_str!("../fixtures/rsa-two.pem")));
pub(super) static P256: LazyLock<Signer> =
    LazyLock::new(|| Signer::P256(ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)));
pub(super) static P384: LazyLock<Signer> =
    LazyLock::new(|| Signer::P384(ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)));
pub(super) static ED: LazyLock<Signer> = LazyLock::new(|| {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    Signer::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key"))
});

fn rsa(pem: &str) -> Signer {
    let lines = pem.lines().filter(|line| !line.contains([' ', '-']));
    let der = STANDARD.decode(lines.collect::<String>()).expect("base64");
    Signer::Rsa(RsaKeyPair::from_pkcs8(&der).expect("a key"))
}

fn ec(kind: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).expect("a key")
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature)
                    .expect("signs");
                signature
            }
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).expect("signs").as_ref().to_vec()
            }
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as a JWK, with what else is said of it.
    pub(super) fn jwk(&self, kid: &str, more: Value) -> Value {
        let mut key = match self {
            Self::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": base64(public.n), "e": base64(public.e)})
            }
            Self::P256(key) | Self::P384(key) => {
                let (x, y) = {
                    let point = &key.public_key().as_ref()[1..];
                    point.split_at(point.len() / 2)
                };
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key())})
            }
        };
        let all = key.as_object_mut().expect("an object");
        all.insert("kid".into(), kid.into());
        all.extend(more.as_object().expect("an object").clone());
        key
    }
}

/// The issuer's key set.
pub(super) fn jwks() -> Value {
    json!({"keys": [
        RSA.jwk("rsa", json!({"use": "sig", "alg": "RS256"})),
        RSA.jwk("rsa-any", json!({})),
        P256.jwk("p256", json!({"use": "sig"})),
        P384.jwk("p384", json!({"key_ops": ["verify"]})),
        ED.jwk("ed", json!({"alg": "EdDSA"})),
        RSA.jwk("rsa-enc", json!({"use": "enc"})),
        RSA.jwk("rsa-wrap", json!({"key_ops": ["wrapKey"]})),
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "EC", "kid": "odd", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kid": "nothing"},
        "not a key",
    ]})
}

pub(super) fn settings() -> IssuerSettings {
    let text = format!("{{issuer: '{ISSUER}', audience: portcullis}}");
    serde_saphyr::from_str(&text).expect("settings")
}

/// What a good token says.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "agent-7", "aud": "portcullis",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
        "groups": ["agents", "dba"], "email": "a@example.test", "level": 3, "human": false,
    })
}

/// The good claims with some of them changed; `null` takes one out.
pub(super) fn claims_with(changes: Value) -> Value {
    merged(claims(), changes)
}

pub(super) fn merged(mut base: Value, changes: Value) -> Value {
    let all = base.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => all.remove(name),
            _ => all.insert(name.clone(), value.clone()),
        };
    }
    base
}

pub(super) fn header(alg: &str, kid: &str) -> Value {
    json!({"alg": alg, "kid": kid, "typ": "JWT"})
}

/// A token over these texts as they are.
pub(super) fn raw(signer: &Signer, alg: &str, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64(header), base64(claims));
    let signature = signer.sign(alg, signed.as_bytes());
    format!("{signed}.{}", base64(signature))
}

pub(super) fn token(signer: &Signer, header: &Value, claims: &Value) -> String {
    let alg = header["alg"].as_str().unwrap_or("RS256");
    raw(signer, alg, &header.to_string(), &claims.to_string())
}

pub(super) fn good() -> String {
    token(&RSA, &header("RS256", "rsa"), &claims())
}

/// The verdict with these settings and the issuer's key set.
pub(super) fn verdict_with(
    token: &str,
    settings: &IssuerSettings,
) -> Result<Principal, TokenRefusal> {
    static KEYS: LazyLock<KeySet> =
        LazyLock::new(|| KeySet::parse(jwks().to_string().as_bytes()).expect("keys"));
    let token = Token::parse(token.as_bytes())?;
    if token.issuer()? != settings.issuer {
        return Err(TokenRefusal::UnknownIssuer);
    }
    judge::judge(&token, settings, &KEYS, NOW)
}

pub(super) fn verdict(token: &str) -> Result<Principal, TokenRefusal> {
    verdict_with(token, &settings())
}
