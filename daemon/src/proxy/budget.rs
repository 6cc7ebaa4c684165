//! The memory that all connections share, for what does not fit into a connection's own.
//!
//! Each connection may hold [`OWN`] bytes as it likes; what goes beyond is taken from one
//! budget for all, so that many of them together hold no more than it, and from its agent
//! session's part of that, so that one agent can't take it all. Sessions that were started
//! from inside another share the outermost one's part. Who gets nothing waits or is refused,
//! never served from elsewhere. Given back at the latest with the connection. Absent on
//! purpose: the capacity of buffers, of which two may share one; it is bytes that are counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::types::SessionId;

/// What each connection may hold without asking, in bytes.
pub(super) const OWN: usize = 64 * 1024;
/// What is taken and given back at once.
const STEP: usize = 64 * 1024;
/// An agent session gets one part of so many of the budget for all.
const PARTS: usize = 4;

/// What is left for all, and for each session that has connections.
#[derive(Debug)]
pub(super) struct Budget {
    all: Pot,
    /// What one session may take.
    part: usize,
    sessions: Mutex<HashMap<SessionId, Weak<AtomicUsize>>>,
}

/// Bytes that are left.
#[derive(Debug, Clone)]
struct Pot(Arc<AtomicUsize>);

impl Pot {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// False if there is not so much: then nothing has changed.
    fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// So many bytes for all; a session's part has room for one message of the longest that
    /// may be held, whatever its share is.
    pub(super) fn new(bytes: usize, message: usize) -> Self {
        Self {
            all: Pot::new(bytes),
            part: (bytes / PARTS).max(message.next_multiple_of(STEP)),
            sessions: Mutex::default(),
        }
    }

    /// The share of a connection of this session, empty so far. For a session that was
    /// started from inside others, `session` is the outermost.
    pub(super) fn share(&self, session: &SessionId) -> Share {
        Share {
            all: self.all.clone(),
            session: self.session(session),
            taken: 0,
        }
    }

    fn session(&self, session: &SessionId) -> Pot {
        // Whole between any two calls.
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = sessions.get(session).and_then(Weak::upgrade) {
            return Pot(left);
        }
        sessions.retain(|_, left| left.strong_count() > 0);
        let pot = Pot::new(self.part);
        sessions.insert(session.clone(), Arc::downgrade(&pot.0));
        pot
    }
}

/// What one connection has taken.
#[derive(Debug)]
pub(super) struct Share {
    all: Pot,
    session: Pot,
    taken: usize,
}

impl Share {
    /// Takes or gives back until it is enough for `held` bytes. False if there is not so
    /// much: then nothing has changed.
    pub(super) fn hold(&mut self, held: usize) -> bool {
        let wanted = held.saturating_sub(OWN).div_ceil(STEP) * STEP;
        if wanted > self.taken {
            let more = wanted - self.taken;
            if !self.session.take(more) {
                return false;
            }
            if !self.all.take(more) {
                self.session.give_back(more);
                return false;
            }
        } else if wanted < self.taken {
            self.all.give_back(self.taken - wanted);
            self.session.give_back(self.taken - wanted);
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

    fn left(pot: &Pot) -> usize {
        pot.0.load(Ordering::Relaxed)
    }

    #[test]
    fn all_shares_together_never_hold_more_than_there_is() {
        let budget = Budget::new(4 * STEP, 4 * STEP);
        let all = || left(&budget.all);
        let sessions = [SessionId::random(), SessionId::random()];
        let [mut one, mut other] = sessions.map(|session| budget.share(&session));
        assert!(one.hold(OWN) && other.hold(OWN));
        assert_eq!(all(), 4 * STEP);
        assert!(one.hold(OWN + 1));
        assert_eq!(all(), 3 * STEP);
        assert!(!other.hold(OWN + 4 * STEP));
        // What was not had costs the session nothing.
        assert_eq!(left(&other.session), 4 * STEP);
        assert!(other.hold(OWN + 3 * STEP));
        assert!(!one.hold(OWN + STEP + 1));
        assert_eq!(all(), 0);
        assert!(other.hold(0));
        assert!(one.hold(OWN + 2 * STEP));
        drop(one);
        assert_eq!(all(), 4 * STEP);
    }

    #[test]
    fn one_sessions_many_connections_leave_the_others_their_room() {
        const MESSAGE: usize = 3 * STEP;
        let budget = Budget::new(16 * STEP, MESSAGE);
        let (greedy, other) = (SessionId::random(), SessionId::random());
        let mut shares: Vec<_> = (0..100).map(|_| budget.share(&greedy)).collect();
        let held = shares
            .iter_mut()
            .filter_map(|share| share.hold(OWN + STEP).then_some(()))
            .count();
        assert_eq!((held, left(&budget.all)), (4, 12 * STEP));
        let mut share = budget.share(&other);
        assert!(share.hold(OWN + MESSAGE));
        // What it gives back is its own again, on whatever connection.
        shares.truncate(1);
        assert!(budget.share(&greedy).hold(OWN + 3 * STEP));
    }

    #[test]
    fn a_sessions_part_has_room_for_a_message() {
        let budget = Budget::new(4 * STEP, 2 * STEP - 1);
        let mut share = budget.share(&SessionId::random());
        assert!(share.hold(OWN + 2 * STEP) && !share.hold(OWN + 2 * STEP + 1));
    }

    #[test]
    fn sessions_without_connections_are_forgotten() {
        let budget = Budget::new(4 * STEP, STEP);
        let kept = budget.share(&SessionId::random());
        for _ in 0..100 {
            drop(budget.share(&SessionId::random()));
        }
        let known = budget.sessions.lock().expect("sessions").len();
        assert_eq!(known, 2);
        drop(kept);
    }
}
