//! What the configuration says of an issuer (`identity.issuers`).

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::types::parse_duration;
use crate::web;

/// A signature that tokens may have (RFC 7518 section 3.1, RFC 8037 section 3.1). HMAC and
/// `none` are absent on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    const ALL: [(&'static str, Self); 6] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    /// By its exact name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, one)| one)
    }
}

/// One issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The URL that tokens have as `iss`, byte by byte.
    pub issuer: String,
    /// What `aud` must hold.
    pub audience: String,
    /// What `azp` must be, when set: the client that tokens are issued to.
    #[serde(default)]
    pub client: Option<String>,
    /// The key set (RFC 7517) as a file, for an issuer that can't be reached.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// A PEM file of authorities, for reaching the issuer.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Where the groups stand; dots lead into objects: `realm_access.roles`. A claim whose
    /// own name has dots is found first.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// The claim that names the principal.
    #[serde(default = "sub")]
    pub name_claim: String,
    /// The signatures that are accepted.
    #[serde(default = "every_algorithm")]
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be from ours.
    #[serde(default = "leeway", deserialize_with = "duration")]
    pub leeway: Duration,
    /// How long after `iat` a token may start or renew a session.
    #[serde(default, deserialize_with = "some_duration")]
    pub max_age: Option<Duration>,
    /// How long the last good keys serve while the issuer can't be asked.
    #[serde(default = "keep_keys", deserialize_with = "duration")]
    pub keep_keys: Duration,
}

fn groups() -> String {
    "groups".into()
}

fn sub() -> String {
    "sub".into()
}

fn every_algorithm() -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().map(|(_, one)| one).collect()
}

fn leeway() -> Duration {
    Duration::from_secs(60)
}

fn keep_keys() -> Duration {
    Duration::from_secs(24 * 3600)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| serde::de::Error::custom("not a length of time: write 90s, 10m, 1h or 7d"))
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// The configuration of an issuer can't be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("identity.issuers: {issuer}: {problem}")]
pub struct SettingsError {
    issuer: String,
    problem: String,
}

/// The longest `leeway`: with more, `exp` would mean little.
const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

/// Checks what can be checked without reading a file or asking anybody.
pub fn check_all(issuers: &[IssuerSettings]) -> Result<(), SettingsError> {
    let mut seen = HashSet::new();
    for settings in issuers {
        let problem = match settings.problem() {
            None if seen.insert(&settings.issuer) => continue,
            None => "listed twice".into(),
            Some(problem) => problem,
        };
        return Err(SettingsError {
            issuer: settings.issuer.escape_debug().to_string(),
            problem,
        });
    }
    Ok(())
}

impl IssuerSettings {
    /// Reads one entry of `identity.issuers`, as YAML.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    fn problem(&self) -> Option<String> {
        let absolute = |path: &PathBuf| path.is_absolute();
        if let Err(problem) = check_url(&self.issuer) {
            return Some(format!("`issuer` {problem}"));
        }
        let problem = if self.audience.is_empty() {
            "`audience` is empty"
        } else if self.client.as_deref() == Some("") {
            "`client` is empty"
        } else if self.groups_claim.split('.').any(str::is_empty) {
            "`groups_claim` is not a claim, or claims with dots between"
        } else if self.name_claim.is_empty() {
            "`name_claim` is empty"
        } else if self.algorithms.is_empty() {
            "`algorithms` is an empty list"
        } else if self.leeway > LONGEST_LEEWAY {
            "`leeway` is more than 5m"
        } else if !self.jwks_file.as_ref().is_none_or(absolute) {
            "`jwks_file` is not an absolute path"
        } else if !self.ca.as_ref().is_none_or(absolute) {
            "`ca` is not an absolute path"
        } else if self.jwks_file.is_some() && self.ca.is_some() {
            "with `jwks_file` nobody is asked: take `ca` out"
        } else {
            return None;
        };
        Some(problem.into())
    }
}

/// OpenID Connect Discovery 1.0, section 3: https, no query, no fragment. Plain http is for
/// a provider on this host.
pub(super) fn check_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "is not a URL")?;
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if web::is_loopback(&url) => {}
        Some("http") => return Err("must be https, or http on this host itself"),
        _ => return Err("must be an https URL"),
    }
    if url.query().is_some() || text.contains('#') {
        return Err("must have no query and no fragment");
    }
    if url.authority().is_none_or(|at| at.as_str().contains('@')) {
        return Err("must have no user name");
    }
    Ok(url)
}
