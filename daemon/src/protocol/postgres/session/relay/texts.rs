//! How the gate reads a text, and whether the server will read it in the same way.
//!
//! What may be read in two ways is judged as what it seems to do and as unknown.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Reading, Relay, ServerEncoding};
use crate::policy::{Effect, Object, Verb};
use crate::protocol::postgres::analyse::Context;
use crate::protocol::postgres::session::pipeline::{Kept, Readable};
use crate::protocol::{Names, Operation};

const STRINGS: &str = "a statement while standard_conforming_strings is off";
const ENCODING: &str = "a statement that is not UTF-8; set client_encoding to UTF8";

impl Relay {
    /// What a text does; none if that is not settled before an answer has come.
    pub(super) fn analyse(&self, bytes: &[u8]) -> Option<Kept> {
        let text = String::from_utf8_lossy(bytes);
        let search_path = &self.search_path;
        let problem = match self.readable(&text) {
            Ok(Readable::Wait) => return None,
            Ok(Readable::Yes) if matches!(text, Cow::Borrowed(_)) => None,
            Ok(Readable::Yes) => Some(ENCODING),
            Ok(Readable::No) => {
                Some("a statement behind one that may change how it is read; send Sync first")
            }
            Err(problem) => Some(problem),
        };
        let operation = self.cache.analyse(&text, &Context { search_path });
        Some(self.keep(match problem {
            None => operation,
            Some(problem) => Arc::new(doubtful(&operation, problem)),
        }))
    }

    /// Whether the gate reads the text as the server will.
    fn readable(&self, text: &str) -> Result<Readable, &'static str> {
        // Without a backslash strings end where they end, whatever the setting; and ASCII
        // stands for itself in each encoding.
        let plain = text.is_ascii() && !text.contains('\\');
        let settled = self.pipeline.readable(plain);
        if settled != Readable::Yes {
            return Ok(settled);
        }
        let Reading {
            client_utf8,
            server,
            conforming,
        } = self.reading;
        if conforming != Some(true) {
            return Err(STRINGS);
        }
        match server {
            _ if text.is_ascii() => Ok(Readable::Yes),
            // In other encodings a byte above 127 may hide a quote from us.
            Some(ServerEncoding::Utf8) if client_utf8 != Some(true) => Err(ENCODING),
            Some(ServerEncoding::Utf8) => Ok(Readable::Yes),
            _ => Err("a statement with more than ASCII in a database that is not UTF8"),
        }
    }
}

/// Whether the server may read the next text in another way once this has run: it changes
/// a setting that is not harmless, or runs code that the gate does not see. Code that the
/// database's owners made (functions, triggers) is taken to leave these settings alone.
pub(super) fn may_change_reading(operation: &Operation) -> bool {
    operation.effects.iter().any(|effect| match effect.verb {
        Verb::SqlUnknown | Verb::SqlProcedural => true,
        Verb::SqlSession => effect.object != Object::Service,
        Verb::SqlCall => {
            matches!(&effect.object, Object::Path(path) if **path == *"pg_catalog.set_config")
        }
        _ => false,
    })
}

/// A text that the server may read in another way: what it seems to do, and anything.
fn doubtful(operation: &Operation, problem: &str) -> Operation {
    let mut effects = operation.effects.clone();
    effects.push(Effect::on_path(Verb::SqlUnknown, "statement"));
    effects.sort();
    effects.dedup();
    Operation {
        text: operation.text.clone(),
        fingerprint: operation.fingerprint.clone(),
        effects,
        problem: Some(problem.into()),
        names: Names::any(),
    }
}
