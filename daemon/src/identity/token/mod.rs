//! Tokens of OpenID providers: a signed text in, a principal out.
//!
//! The verdict is a pure function of the token, the issuer's settings, its keys and the
//! time (`judge`); around it stands only the fetching of keys. Invariant: nothing that a
//! token says of itself (key, address of a key, algorithm) is used before the issuer's own
//! key has confirmed it, and no refusal repeats the token. Absent on purpose: HMAC, `none`,
//! encrypted tokens, opaque tokens (introspection).

mod cache;
mod claims;
mod fetch;
mod json;
mod judge;
mod keys;
mod parse;
mod refusal;
mod settings;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use refusal::{Part, TokenRefusal};
pub use settings::{Algorithm, IssuerSettings, SettingsError, check_all};

use crate::types::{Principal, Secret};
use parse::Token;
use source::Source;

/// Verifies tokens of the issuers that the configuration lists.
#[derive(Debug, Default)]
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
}

#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    source: Source,
}

impl Verifier {
    /// Checks the settings; fetches nothing yet.
    pub fn new(issuers: Vec<IssuerSettings>) -> Result<Self, SettingsError> {
        settings::check_all(&issuers)?;
        let issuers = issuers.into_iter().map(|settings| {
            let source = Source::new(&settings);
            (settings.issuer.clone(), Issuer { settings, source })
        });
        Ok(Self {
            issuers: issuers.collect(),
        })
    }

    /// The issuers, for messages.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.keys().map(String::as_str)
    }

    /// Whom the token speaks for. `now` is the time of day in seconds since 1970 (UTC).
    /// May wait for the issuer: at most about ten seconds, and behind others that do.
    pub async fn verify(&self, token: &Secret, now: i64) -> Result<Principal, TokenRefusal> {
        let token = Token::parse(token.expose())?;
        let issuer = self
            .issuers
            .get(token.issuer()?)
            .ok_or(TokenRefusal::UnknownIssuer)?;
        judge::check_algorithm(&token, &issuer.settings)?;
        let keys = issuer.source.keys(token.header.kid()?).await?;
        judge::judge(&token, &issuer.settings, &keys, now)
    }
}
