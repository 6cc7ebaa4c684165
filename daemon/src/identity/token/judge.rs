//! The verdict on a token: pure, with keys and time passed in.

use super::claims;
use super::keys::KeySet;
use super::parse::Token;
use super::refusal::TokenRefusal;
use super::settings::IssuerSettings;
use crate::types::Principal;

/// Refused before anybody is asked for keys.
pub(super) fn check_algorithm(
    token: &Token<'_>,
    settings: &IssuerSettings,
) -> Result<(), TokenRefusal> {
    if settings.algorithms.contains(&token.header.algorithm) {
        Ok(())
    } else {
        Err(TokenRefusal::AlgorithmNotAccepted)
    }
}

/// Whom the token speaks for: its signature first, then what it says.
pub(super) fn judge(
    token: &Token<'_>,
    settings: &IssuerSettings,
    keys: &KeySet,
    now: i64,
) -> Result<Principal, TokenRefusal> {
    check_algorithm(token, settings)?;
    let keys = keys.usable(token.header.kid()?, token.header.algorithm)?;
    let genuine = |key: &&super::keys::Key| {
        key.verify(token.header.algorithm, token.signed, &token.signature)
    };
    keys.into_iter()
        .find(genuine)
        .ok_or(TokenRefusal::BadSignature)?;
    if token.issuer()? != settings.issuer {
        return Err(TokenRefusal::UnknownIssuer);
    }
    claims::principal(&token.claims, settings, now)
}
