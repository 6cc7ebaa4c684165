//! SQL text in, every effect of it out.
//!
//! PostgreSQL's own grammar (pg_query) reads the text; walk.rs visits each node of what it
//! says. Never fails: a text that can't be read, or says something that no rule knows, has
//! the effect `sql.unknown`. Over-reporting refuses, under-reporting would let data out, so
//! every doubt is resolved to more effects. docs/postgres.md has the table of effects.
//! Absent on purpose: the catalog (what a view or a function does inside), I/O, clocks.

mod cache;
mod calls;
mod exceptions;
mod lists;
mod names;
mod nodes;
mod objects;
mod query;
mod session_names;
mod settings;
mod shape;
mod statements;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::thread;

pub use cache::Cache;
pub(in crate::protocol::postgres) use lists::is_safe_setting;

use crate::policy::{Effect, Verb};
use crate::protocol::{Names, Operation};
use tree::Tree;
use walk::{At, Walker};

/// Longest text that is analysed, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// Most words (tokens) of a text. The parser takes up to 2 KiB of memory and 8 µs for each.
pub const MAX_TOKENS: usize = 50_000;

/// A text no longer than this (bytes) can't have too many tokens.
const FEW_TOKENS: usize = 8 * 1024;

/// What the session knows that the text alone does not say.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The session's search path as the gate pinned it at login, with `$user` resolved.
    pub search_path: &'a [String],
}

/// Everything that a text does. A text of several statements is judged as one operation; an
/// empty one does nothing.
///
/// Runs in a thread of its own where the calling one has not said by [`this_thread_is_roomy`]
/// that its stack is large enough.
pub fn analyse(text: &str, context: &Context<'_>) -> Operation {
    let analysed = if ROOMY.get() {
        read_and_walk(text, context)
    } else {
        elsewhere(text, context)
    };
    let (fingerprint, effects, problem, names) = match analysed {
        Ok(analysed) => analysed,
        Err(why) => (
            shapeless(text),
            vec![unknown()],
            Some(why.to_string().into()),
            Names::any(),
        ),
    };
    Operation {
        text: text.into(),
        fingerprint,
        effects,
        problem,
        names,
    }
}

type Analysed = (Box<str>, Vec<Effect>, Option<Box<str>>, Names);

fn read_and_walk(text: &str, context: &Context<'_>) -> Result<Analysed, Unreadable> {
    let (tree, fingerprint) = read(text)?;
    let mut walker = Walker::new(context);
    walker.tree(&tree, At::statement(Verb::SqlSelect));
    let (effects, problem) = walker.finish();
    let names = session_names::of(&tree, context);
    Ok((fingerprint, effects, problem, names))
}

/// Stack that an analysis may need, in bytes. The deepest tree that the decoder takes needs
/// under 1 MiB in a release build and 3 MiB in a debug build.
pub const STACK: usize = 8 << 20;

thread_local! {
    static ROOMY: Cell<bool> = const { Cell::new(false) };
}

/// To be called at the start of a thread that has at least [`STACK`] bytes of stack: it then
/// analyses in place, which saves starting another thread for each text.
pub fn this_thread_is_roomy() {
    ROOMY.set(true);
}

fn elsewhere(text: &str, context: &Context<'_>) -> Result<Analysed, Unreadable> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("analyse".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || read_and_walk(text, context))
            .map_err(|_| Unreadable::NoThread)?
            .join()
            .map_err(|_| Unreadable::NoThread)?
    })
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
    #[error("the statement has more than {MAX_TOKENS} words")]
    TooMany,
    #[error("{0}")]
    Parser(#[from] pg_query::Error),
    #[error("{0}")]
    Tree(#[from] tree::Unexpected),
    #[error("the parser returned nothing")]
    NoTree,
    #[error("no thread to parse in")]
    NoThread,
}

/// The statements of a text, and the hash of its shape.
fn read(text: &str) -> Result<(Tree, Box<str>), Unreadable> {
    if text.len() > MAX_TEXT {
        return Err(Unreadable::TooLong);
    }
    if text.len() > FEW_TOKENS && pg_query::scan_tokens(text)?.len() > MAX_TOKENS {
        return Err(Unreadable::TooMany);
    }
    let parsed = pg_query::parse(text, 0)?;
    if parsed.protobuf.version == 0 {
        return Err(Unreadable::NoTree);
    }
    let fingerprint = pg_query::fingerprint(text, 0, 0)?;
    Ok((Tree::of(&parsed.protobuf.stmts)?, fingerprint.hex.into()))
}

/// The fingerprint of a text that has no tree: its own FNV-1a hash.
fn shapeless(text: &str) -> Box<str> {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}").into()
}
