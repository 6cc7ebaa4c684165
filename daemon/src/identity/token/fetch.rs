//! Asks an issuer for its keys: the discovery document, then the key set it names (OpenID
//! Connect Discovery 1.0, section 4). Each answer is bounded by `web`.

use std::time::Duration;

use hyper::Uri;
use hyper::header::CACHE_CONTROL;
use serde_json::Value;

use super::cache;
use super::json;
use super::keys::KeySet;
use super::settings::IssuerSettings;
use crate::web::{Answer, Client, Settings, is_loopback};

/// An issuer that can be asked.
#[derive(Debug)]
pub(super) struct Remote {
    issuer: String,
    client: Client,
}

impl Remote {
    pub(super) fn new(settings: &IssuerSettings) -> Self {
        Self {
            issuer: settings.issuer.clone(),
            client: Client::new(Settings {
                ca: settings.ca.clone(),
                ..Settings::default()
            }),
        }
    }

    /// The keys, and how long the issuer says that they may be kept.
    pub(super) async fn fetch(&self) -> Result<(KeySet, Option<Duration>), String> {
        let base = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        let url = format!("{base}/.well-known/openid-configuration");
        let document = self.get(&url.parse().map_err(|_| "not a URL")?).await?;
        let answer = self.get(&self.key_set_url(&document.body)?).await?;
        let keys = KeySet::parse(&answer.body)?;
        let control = answer.headers.get(CACHE_CONTROL);
        let control = control.and_then(|value| value.to_str().ok());
        Ok((keys, control.and_then(cache::max_age)))
    }

    async fn get(&self, url: &Uri) -> Result<Answer, String> {
        let answer = self.client.get(url).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            200 => Ok(answer),
            status => Err(format!("the issuer answers with HTTP status {status}")),
        }
    }

    /// `jwks_uri` of the document, which must be the issuer's own.
    fn key_set_url(&self, document: &[u8]) -> Result<Uri, &'static str> {
        let document =
            json::object(document).map_err(|_| "the discovery document is not a JSON object")?;
        let text = |name| document.get(name).and_then(Value::as_str);
        if text("issuer") != Some(&self.issuer) {
            return Err("the discovery document is of another issuer");
        }
        let url = text("jwks_uri").ok_or("the discovery document has no `jwks_uri`")?;
        let url: Uri = url.parse().map_err(|_| "`jwks_uri` is not a URL")?;
        let plain = self.issuer.starts_with("http:");
        match url.scheme_str() {
            Some("https") => Ok(url),
            // Never less safe than the issuer itself.
            Some("http") if plain && is_loopback(&url) => Ok(url),
            _ => Err("`jwks_uri` must be https"),
        }
    }
}
