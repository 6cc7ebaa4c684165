//! A credential in memory.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A password or key. Wiped when dropped; its `Debug` form says nothing.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes ownership of the text.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The bytes, for the one call that presents them to the upstream.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

/// Made from the parser's own copy, so that none is left in a tree of values.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// What a service is logged in to with.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The user that it belongs to, where it brings its own; else the service's.
    pub user: Option<String>,
    /// The password or key.
    pub secret: Secret,
}

impl From<Secret> for Credential {
    fn from(secret: Secret) -> Self {
        Self { user: None, secret }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_says_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(..)");
    }
}
