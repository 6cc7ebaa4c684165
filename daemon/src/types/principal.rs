//! Who an agent session acts for, and the names that policies use.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name! {
    /// A role of the policy (`roles:`).
    RoleName
}
name! {
    /// A named backend of the policy (`services:`).
    ServiceName
}

/// Whom a session acts for, and how we know. Which roles this brings is the policy's
/// answer, asked anew at each operation, so that a reload reaches live sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Its name, for records and `when.as`.
    pub name: Arc<str>,
    /// How we know.
    pub proof: Proof,
    /// What a narrower session was narrowed to: it has no role but these, whatever the
    /// policy would give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Arc<[RoleName]>>,
}

/// How the daemon knows a principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Whoever may use the control socket said so: `portcullis run --as NAME`.
    Word,
    /// A verified token of an OpenID provider.
    Token(Arc<TokenFacts>),
    /// The path of its cgroup matches `when.cgroup`; the pattern that won.
    Cgroup(Arc<str>),
}

/// What a verified token says (RFC 7519, OpenID Connect Core 1.0 section 2). Never the
/// token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFacts {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`, one or several.
    pub audience: Vec<String>,
    /// The groups claim, flattened.
    pub groups: Vec<String>,
    /// `iat`, seconds since 1970 (UTC).
    pub issued: i64,
    /// `exp`, seconds since 1970 (UTC).
    pub expires: i64,
    /// The other claims that are a text, a number or a truth value, as text.
    pub claims: BTreeMap<String, String>,
}

impl Principal {
    /// The principal that a trusted caller names.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            proof: Proof::Word,
            only: None,
        }
    }
}
