//! A variable of the daemon's environment, taken out of it before any thread started.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Fetched, Pending, Source, VaultError, usable};
use crate::policy::Permit;
use crate::types::Secret;

/// One variable.
pub(super) struct Variable {
    pub(super) all: Arc<HashMap<String, Secret>>,
    pub(super) name: String,
}

impl Source for Variable {
    fn fetch<'a>(&'a self, _permit: &'a Permit) -> Pending<'a, Fetched> {
        Box::pin(async { Ok(find(&self.all, &self.name)?.into()) })
    }
}

pub(super) fn find(all: &HashMap<String, Secret>, name: &str) -> Result<Secret, VaultError> {
    let found = all.get(name).cloned();
    let found = found.ok_or_else(|| VaultError::NoVariable(name.into()))?;
    usable(found).map_err(|problem| VaultError::Content {
        from: format!("in the variable {name}"),
        problem,
    })
}
