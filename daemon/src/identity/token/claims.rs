//! What a genuine token says, checked against the issuer's settings and the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::refusal::TokenRefusal;
use super::settings::IssuerSettings;
use crate::types::{Principal, Proof, TokenFacts};

type Claims = Map<String, Value>;

/// The end of the year 9999.
const LATEST: u64 = 253_402_300_799;
/// Of a principal's name, in bytes.
const LONGEST_NAME: usize = 256;
/// What the facts have under a name of their own.
const OWN: [&str; 5] = ["iss", "sub", "aud", "iat", "exp"];

pub(super) fn principal(
    claims: &Claims,
    settings: &IssuerSettings,
    now: i64,
) -> Result<Principal, TokenRefusal> {
    let audience = audience(claims, settings)?;
    let (issued, expires) = times(claims, settings, now)?;
    let subject = text(claims, "sub")?.ok_or(TokenRefusal::Missing("sub"))?;
    let name = claims.get(&settings.name_claim).and_then(Value::as_str);
    let name = name.filter(|name| is_name(name));
    let name = name.ok_or(TokenRefusal::BadName)?.into();
    let facts = TokenFacts {
        issuer: settings.issuer.clone(),
        subject: subject.to_owned(),
        audience,
        groups: groups(claims, &settings.groups_claim)?,
        issued,
        expires,
        claims: plain(claims),
    };
    Ok(Principal {
        name,
        proof: Proof::Token(Arc::new(facts)),
        only: None,
    })
}

/// OpenID Connect Core 1.0, section 3.1.3.7, points 3 to 5.
fn audience(claims: &Claims, settings: &IssuerSettings) -> Result<Vec<String>, TokenRefusal> {
    let audience = match claims.get("aud") {
        None => return Err(TokenRefusal::Missing("aud")),
        Some(Value::String(one)) => vec![one.clone()],
        Some(list) => texts(list).ok_or(TokenRefusal::WrongKind("aud"))?,
    };
    if !audience.contains(&settings.audience) {
        return Err(TokenRefusal::OtherAudience);
    }
    let client = text(claims, "azp")?;
    match (&settings.client, client) {
        (Some(wanted), Some(client)) if wanted == client => {}
        (Some(_), Some(_)) => return Err(TokenRefusal::OtherClient),
        (Some(_), None) => return Err(TokenRefusal::Missing("azp")),
        // Without a client to compare, at least it must be one that the token is for.
        (None, Some(client)) if audience.len() > 1 => {
            if !audience.iter().any(|one| one == client) {
                return Err(TokenRefusal::OtherClient);
            }
        }
        (None, None) if audience.len() > 1 => return Err(TokenRefusal::NoClient),
        (None, _) => {}
    }
    Ok(audience)
}

/// `iat` and `exp`.
fn times(claims: &Claims, settings: &IssuerSettings, now: i64) -> Result<(i64, i64), TokenRefusal> {
    let leeway = seconds(settings.leeway);
    let expires = time(claims, "exp")?.ok_or(TokenRefusal::Missing("exp"))?;
    let issued = time(claims, "iat")?.ok_or(TokenRefusal::Missing("iat"))?;
    if expires <= issued {
        return Err(TokenRefusal::ExpiresFirst);
    }
    let ahead = issued - now;
    if ahead > leeway {
        return Err(TokenRefusal::IssuedInFuture { ahead });
    }
    let ago = now - expires;
    if ago >= leeway {
        return Err(TokenRefusal::Expired { ago });
    }
    let wait = time(claims, "nbf")?.map_or(0, |start| start - now);
    if wait > leeway {
        return Err(TokenRefusal::NotYetValid { wait });
    }
    let age = now - issued;
    match settings.max_age {
        Some(longest) if age >= seconds(longest).saturating_add(leeway) => {
            Err(TokenRefusal::TooOld { age })
        }
        _ => Ok((issued, expires)),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A NumericDate (RFC 7519, section 2) without a fraction, small enough to calculate with.
fn time(claims: &Claims, name: &'static str) -> Result<Option<i64>, TokenRefusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let time = value.as_u64().filter(|time| *time <= LATEST);
    let time = time.and_then(|time| i64::try_from(time).ok());
    time.map(Some).ok_or(TokenRefusal::NotATime(name))
}

fn text<'c>(claims: &'c Claims, name: &'static str) -> Result<Option<&'c str>, TokenRefusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(TokenRefusal::WrongKind(name)),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter();
    items.map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Records and refusals show it in one line.
fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The groups claim; a token without one has none.
fn groups(claims: &Claims, path: &str) -> Result<Vec<String>, TokenRefusal> {
    let found = claims.get(path).or_else(|| {
        let mut parts = path.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    });
    match found {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(list) => texts(list).ok_or(TokenRefusal::WrongKind("groups")),
    }
}

/// The claims that a policy can compare.
fn plain(claims: &Claims) -> BTreeMap<String, String> {
    let others = claims
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()));
    others
        .filter_map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                _ => return None,
            };
            Some((name.clone(), text))
        })
        .collect()
}
