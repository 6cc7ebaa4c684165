//! A token's text to its parts, before anything in it is believed (RFC 7515, section 7.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json::{self, Wrong};
use super::refusal::{Part, TokenRefusal};
use super::settings::Algorithm;

/// The longest token that is looked into, in bytes. Its facts are kept in an extended
/// attribute, which has room for 64 KiB.
pub(super) const LONGEST: usize = 16 * 1024;
/// Of a key's id, in bytes.
const LONGEST_KID: usize = 256;

/// A token's parts. Nothing is verified.
pub(super) struct Token<'t> {
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    /// What the signature is over: the first two parts as they came.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// What the header says, with everything in it that would be dangerous to heed refused.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    kid: Option<Value>,
}

impl<'t> Token<'t> {
    pub(super) fn parse(text: &'t [u8]) -> Result<Self, TokenRefusal> {
        if text.len() > LONGEST {
            return Err(TokenRefusal::TooLong { longest: LONGEST });
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (header, claims, signature) = match (parts.next(), parts.next(), parts.next()) {
            (Some(header), Some(claims), Some(signature)) => (header, claims, signature),
            _ => return Err(TokenRefusal::NotThreeParts),
        };
        match parts.count() {
            0 => {}
            2 => return Err(TokenRefusal::Encrypted),
            _ => return Err(TokenRefusal::NotThreeParts),
        }
        let signed = text.get(..header.len() + 1 + claims.len()).unwrap_or(&[]);
        Ok(Self {
            header: Header::read(&object(header, Part::Header)?)?,
            claims: object(claims, Part::Claims)?,
            signed,
            signature: decode(signature, Part::Signature)?,
        })
    }

    /// `iss`, for finding whose keys to ask.
    pub(super) fn issuer(&self) -> Result<&str, TokenRefusal> {
        let issuer = self.claims.get("iss").ok_or(TokenRefusal::Missing("iss"))?;
        issuer.as_str().ok_or(TokenRefusal::WrongKind("iss"))
    }
}

impl Header {
    fn read(header: &Map<String, Value>) -> Result<Self, TokenRefusal> {
        let has = |name: &&str| header.contains_key(*name);
        if let Some(name) = ["crit", "b64"].into_iter().find(has) {
            return Err(TokenRefusal::Extension(name));
        }
        if let Some(name) = ["jwk", "jku", "x5c", "x5u"].into_iter().find(has) {
            return Err(TokenRefusal::OwnKey(name));
        }
        if has(&"zip") {
            return Err(TokenRefusal::Compressed);
        }
        if has(&"cty") {
            return Err(TokenRefusal::Nested);
        }
        check_type(header.get("typ"))?;
        Ok(Self {
            algorithm: algorithm(header.get("alg"))?,
            kid: header.get("kid").cloned(),
        })
    }

    pub(super) fn kid(&self) -> Result<&str, TokenRefusal> {
        let kid = self.kid.as_ref().ok_or(TokenRefusal::NoKeyId)?;
        let fits = |kid: &&str| (1..=LONGEST_KID).contains(&kid.len());
        kid.as_str().filter(fits).ok_or(TokenRefusal::BadKeyId)
    }
}

/// RFC 7519 section 5.1, RFC 9068 section 2.1. Tokens for other ends (logout+jwt,
/// dpop+jwt, secevent+jwt) may have the same issuer and key.
fn check_type(typ: Option<&Value>) -> Result<(), TokenRefusal> {
    let known = |typ: &str| {
        let typ = typ.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        ["jwt", "at+jwt"].contains(&typ)
    };
    match typ {
        None => Ok(()),
        Some(Value::String(typ)) if known(typ) => Ok(()),
        Some(_) => Err(TokenRefusal::OtherType),
    }
}

fn algorithm(alg: Option<&Value>) -> Result<Algorithm, TokenRefusal> {
    let alg = alg.and_then(Value::as_str);
    let alg = alg.ok_or(TokenRefusal::UnknownAlgorithm)?;
    if let Some(known) = Algorithm::from_name(alg) {
        return Ok(known);
    }
    match alg.to_ascii_lowercase().as_str() {
        "none" => Err(TokenRefusal::NotSigned),
        "hs256" | "hs384" | "hs512" => Err(TokenRefusal::SharedSecret),
        _ => Err(TokenRefusal::UnknownAlgorithm),
    }
}

fn object(text: &[u8], part: Part) -> Result<Map<String, Value>, TokenRefusal> {
    json::object(&decode(text, part)?).map_err(|wrong| match wrong {
        Wrong::NotAnObject => TokenRefusal::NotJson(part),
        Wrong::Duplicate => TokenRefusal::Duplicate(part),
    })
}

/// Strict: one text for one value, so that no changed text has the same meaning.
fn decode(text: &[u8], part: Part) -> Result<Vec<u8>, TokenRefusal> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenRefusal::NotBase64(part))
}
