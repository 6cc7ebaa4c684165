//! The names that a session's texts make and use: prepared statements and cursors.
//!
//! What `EXECUTE q` or `FETCH c` does is not in its text. A protocol session that follows
//! its names can put in what they stand for; without that, such an operation stays unknown.

use super::Operation;
use crate::policy::Effect;

/// What kind of thing a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A prepared statement.
    Statement,
    /// A cursor; shares its names with the protocol's portals.
    Cursor {
        /// It outlives its transaction.
        hold: bool,
    },
}

/// A text that uses one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What is used.
    pub kind: NameKind,
    /// Its name.
    pub name: Box<str>,
    /// What the text does beside.
    pub beside: Vec<Effect>,
}

/// Names that mean something else once a text has run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Changed {
    /// None.
    #[default]
    Nothing,
    /// These.
    Some(Vec<Box<str>>),
    /// Any.
    All,
}

impl Changed {
    /// Whether `name` is one of them.
    pub fn has(&self, name: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(names) => names.iter().any(|changed| changed.as_bytes() == name),
            Self::All => true,
        }
    }
}

/// What a text does to the session's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The text is one statement, which makes this name stand for its effects.
    pub defines: Option<(NameKind, Box<str>)>,
    /// The text is one statement, which uses this name.
    pub uses: Option<Use>,
    /// Prepared statements that it makes or drops.
    pub statements: Changed,
    /// Cursors that it opens or closes.
    pub cursors: Changed,
}

impl Names {
    /// Of a text that may do anything.
    pub fn any() -> Self {
        Self {
            statements: Changed::All,
            cursors: Changed::All,
            ..Self::default()
        }
    }

    /// Whether it changes any.
    pub fn changes(&self) -> bool {
        self.statements != Changed::Nothing || self.cursors != Changed::Nothing
    }
}

impl Operation {
    /// This operation, with what its name stands for put in.
    pub fn resolved(&self, usage: &Use, target: &Operation) -> Operation {
        let mut effects = [usage.beside.as_slice(), target.effects.as_slice()].concat();
        effects.sort();
        effects.dedup();
        Operation {
            text: self.text.clone(),
            fingerprint: self.fingerprint.clone(),
            effects,
            problem: target.problem.clone(),
            names: self.names.clone(),
        }
    }
}
