//! The question: may this principal do these effects on this service?

use std::fmt;

use super::Verb;
use crate::types::{Principal, ServiceName};

/// What an effect touches, below its service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// The service as a whole: what reads and changes no data (transaction control, safe
    /// settings, the catalog's public part). Covered by any allow on the service, unless a
    /// deny names the verb.
    Service,
    /// A path below the service, `schema.name`; parts that are not plain lower-case
    /// identifiers are quoted as SQL quotes them.
    Path(Box<str>),
}

/// One thing that an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Effect {
    /// What is done.
    pub verb: Verb,
    /// To what.
    pub object: Object,
}

impl Effect {
    /// An effect on the service as a whole.
    pub fn on_service(verb: Verb) -> Self {
        Self {
            verb,
            object: Object::Service,
        }
    }

    /// An effect on a path below the service.
    pub fn on_path(verb: Verb, path: impl Into<Box<str>>) -> Self {
        Self {
            verb,
            object: Object::Path(path.into()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Object::Service => self.verb.fmt(f),
            Object::Path(path) => write!(f, "{} {path}", self.verb),
        }
    }
}

/// A whole operation, to be judged at once.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// The named backend.
    pub service: &'a ServiceName,
    /// Everything that the operation does. Empty means that it does nothing at all.
    pub effects: &'a [Effect],
}
