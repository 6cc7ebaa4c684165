//! A credential as it is handed out: with a mark, so that who found it wrong can say which.

use std::sync::Arc;

use crate::types::Credential;

/// Which credential it was. Unlike a copy of it, it may be kept.
#[derive(Debug, Clone, Default)]
pub struct Stamp(Arc<()>);

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A credential, and which one it is.
#[derive(Debug, Clone)]
pub struct Handed {
    /// For one login.
    pub credential: Credential,
    /// The same for all who share one answer of a source.
    pub stamp: Stamp,
}

impl Handed {
    pub(super) fn new(credential: Credential) -> Self {
        Self {
            credential,
            stamp: Stamp::default(),
        }
    }
}
