//! An operation that a connection holds on to, and the account of what all of them cost.
//!
//! A text may be a mebibyte long and a connection may have many: the account says when it
//! is enough. Invariant: what is counted when an operation is kept is given back when the
//! last handle to it goes.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::protocol::Operation;

/// Bytes that an operation takes beside its text, and each of its effects, about.
const OVERHEAD: usize = 512;
const EFFECT: usize = 96;

/// Bytes that the operations of one connection take, about.
#[derive(Debug, Default, Clone)]
pub(in super::super) struct Account(Arc<AtomicUsize>);

impl Account {
    pub(in super::super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Counted {
    operation: Arc<Operation>,
    account: Account,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let size = size(&self.operation);
        self.account.0.fetch_sub(size, Ordering::Relaxed);
    }
}

/// A counted operation. Copies of the handle cost nothing.
#[derive(Debug, Clone)]
pub(in super::super) struct Kept(Arc<Counted>);

impl Kept {
    pub(in super::super) fn new(operation: Arc<Operation>, account: &Account) -> Self {
        let account = account.clone();
        account.0.fetch_add(size(&operation), Ordering::Relaxed);
        Self(Arc::new(Counted { operation, account }))
    }

    /// The operation, for whoever outlives the connection.
    pub(in super::super) fn share(&self) -> Arc<Operation> {
        Arc::clone(&self.0.operation)
    }
}

impl Deref for Kept {
    type Target = Operation;

    fn deref(&self) -> &Operation {
        &self.0.operation
    }
}

fn size(operation: &Operation) -> usize {
    OVERHEAD + operation.text.len() + EFFECT * operation.effects.len()
}
