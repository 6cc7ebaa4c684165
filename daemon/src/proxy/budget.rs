//! The memory that all connections share, for what does not fit into a connection's own.
//!
//! Each connection may hold [`OWN`] bytes as it likes; what goes beyond is taken from one
//! budget for all, so that many of them together hold no more than it. Who gets nothing
//! waits or is refused, never served from elsewhere. Given back at the latest with the
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each connection may hold without asking, in bytes.
pub(super) const OWN: usize = 64 * 1024;
/// What is taken and given back at once.
const STEP: usize = 64 * 1024;

/// What is left for all.
#[derive(Debug)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A connection's share, empty so far.
    pub(super) fn share(&self) -> Share {
        Share {
            left: Arc::clone(&self.0),
            taken: 0,
        }
    }
}

/// What one connection has taken.
#[derive(Debug)]
pub(super) struct Share {
    left: Arc<AtomicUsize>,
    taken: usize,
}

impl Share {
    /// Takes or gives back until it is enough for `held` bytes. False if there is not so
    /// much: then nothing has changed.
    pub(super) fn hold(&mut self, held: usize) -> bool {
        let wanted = held.saturating_sub(OWN).div_ceil(STEP) * STEP;
        if wanted > self.taken {
            let more = wanted - self.taken;
            let take = |left: usize| left.checked_sub(more);
            let taken = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            if taken.is_err() {
                return false;
            }
        } else if wanted < self.taken {
            self.left.fetch_add(self.taken - wanted, Ordering::Relaxed);
        }
        self.taken = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_never_hold_more_than_there_is() {
        let budget = Budget::new(4 * STEP);
        let left = || budget.0.load(Ordering::Relaxed);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.hold(OWN) && other.hold(OWN));
        assert_eq!(left(), 4 * STEP);
        assert!(one.hold(OWN + 1));
        assert_eq!(left(), 3 * STEP);
        assert!(!other.hold(OWN + 4 * STEP));
        assert!(other.hold(OWN + 3 * STEP));
        assert!(!one.hold(OWN + STEP + 1));
        assert_eq!(left(), 0);
        assert!(other.hold(0));
        assert!(one.hold(OWN + 2 * STEP));
        drop(one);
        assert_eq!(left(), 4 * STEP);
    }
}
