//! SQL text in, every effect of it out.
//!
//! PostgreSQL's own grammar (pg_query) reads the text; walk.rs visits each node of what it
//! says. Never fails: a text that can't be read, or says something that no rule knows, has
//! the effect `sql.unknown`. Over-reporting refuses, under-reporting would let data out, so
//! every doubt is resolved to more effects. docs/postgres.md has the table of effects.
//! Absent on purpose: the catalog (what a view or a function does inside), I/O, clocks.

mod cache;
mod calls;
mod lists;
mod names;
mod objects;
mod query;
mod settings;
mod statements;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

pub use cache::Cache;
pub(in crate::protocol::postgres) use lists::is_safe_setting;

use crate::policy::{Effect, Verb};
use crate::protocol::Operation;
use tree::Tree;
use walk::{At, Walker};

/// Longest text that is analysed, in bytes. A tree takes up to some hundred times the
/// memory of its text.
pub const MAX_TEXT: usize = 1 << 20;

/// What the session knows that the text alone does not say.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The session's search path as the gate pinned it at login, with `$user` resolved.
    pub search_path: &'a [String],
}

/// Everything that a text does. A text of several statements is judged as one operation; an
/// empty one does nothing.
pub fn analyse(text: &str, context: &Context<'_>) -> Operation {
    let (fingerprint, effects, problem) = match read(text) {
        Ok((tree, fingerprint)) => {
            let mut walker = Walker::new(context);
            walker.tree(&tree, At::statement(Verb::SqlSelect));
            let (effects, problem) = walker.finish();
            (fingerprint, effects, problem)
        }
        Err(why) => (
            shapeless(text),
            vec![unknown()],
            Some(why.to_string().into()),
        ),
    };
    Operation {
        text: text.into(),
        fingerprint,
        effects,
        problem,
    }
}

/// The effect of what the gate can't judge.
fn unknown() -> Effect {
    Effect::on_path(Verb::SqlUnknown, "statement")
}

/// Why a text has no tree.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the statement is longer than {MAX_TEXT} bytes")]
    TooLong,
    #[error("{0}")]
    Parser(#[from] pg_query::Error),
    #[error("{0}")]
    Tree(#[from] tree::Unexpected),
    #[error("the parser returned nothing")]
    NoTree,
}

/// pg_query points the process's standard error at a pipe of its own while it parses, so two
/// of them at once would leave it pointing there.
static PARSER: Mutex<()> = Mutex::new(());

/// The statements of a text, and the hash of its shape.
fn read(text: &str) -> Result<(Tree, Box<str>), Unreadable> {
    if text.len() > MAX_TEXT {
        return Err(Unreadable::TooLong);
    }
    let (parsed, fingerprint) = {
        let _alone = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
        (
            pg_query::parse(text, 0)?,
            pg_query::fingerprint(text, 0, 0)?,
        )
    };
    if parsed.protobuf.version == 0 {
        return Err(Unreadable::NoTree);
    }
    Ok((Tree::of(&parsed.protobuf.stmts)?, fingerprint.hex.into()))
}

/// The fingerprint of a text that has no tree: its own FNV-1a hash.
fn shapeless(text: &str) -> Box<str> {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}").into()
}
