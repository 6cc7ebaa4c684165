//! How long something of a server's lasts: a token, a lease.
//!
//! It is renewed at two thirds and used to nine tenths: a login takes time too. A renewal
//! that brings nothing is the last, so that what is at its longest is not asked about
//! ever more often. Absent on purpose: who renews.

use std::time::Duration;

use tokio::time::Instant;

/// Nothing is believed to last longer: a server's number may be any.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Between tries to renew.
const RETRY: Duration = Duration::from_secs(1);
/// A server's seconds are cut to whole ones.
const CUT: Duration = Duration::from_secs(1);

/// From now on, and until when.
#[derive(Debug, Clone)]
pub(super) struct Term {
    ends: Instant,
    until: Instant,
    /// None for what can't be renewed.
    renew_at: Option<Instant>,
}

impl Term {
    pub(super) fn new(from: Instant, lasts: Duration, renewable: bool) -> Self {
        let lasts = lasts.min(LONGEST);
        Self {
            ends: from + lasts,
            until: from + lasts * 9 / 10,
            renew_at: renewable.then(|| from + lasts * 2 / 3),
        }
    }

    /// Whether it is not to be used any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// Whether to renew it now; if so, not again for a moment.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = !self.is_over(now) && self.renew_at.is_some_and(|at| at <= now);
        if due {
            self.renew_at = Some(now + RETRY);
        }
        due
    }

    /// The server said when it was asked at `now` that it lasts this long.
    pub(super) fn renewed(&mut self, now: Instant, lasts: Duration, renewable: bool) {
        let fresh = Self::new(now, lasts, renewable);
        if fresh.ends > self.ends + CUT {
            *self = fresh;
            return;
        }
        self.renew_at = None;
        if !lasts.is_zero() {
            self.ends = self.ends.min(fresh.ends);
            self.until = self.until.min(fresh.ends);
        }
    }

    /// The server will not renew it.
    pub(super) fn stop_renewing(&mut self) {
        self.renew_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn what_is_over_is_not_renewed() {
        let from = Instant::now();
        let mut term = Term::new(from, seconds(60), true);
        assert!(!term.take_due(from + seconds(39)));
        assert!(term.take_due(from + seconds(40)));
        assert!(!term.take_due(from + seconds(40)), "not twice in a second");
        assert!(term.take_due(from + seconds(41)));
        assert!(term.is_over(from + seconds(54)));
        assert!(!term.take_due(from + seconds(54)));
    }

    #[test]
    fn what_is_at_its_longest_is_renewed_no_more() {
        let from = Instant::now();
        let mut term = Term::new(from, seconds(60), true);
        term.renewed(from + seconds(40), seconds(60), true);
        assert!(!term.is_over(from + seconds(93)));
        // 100 seconds are all that it can have.
        term.renewed(from + seconds(80), seconds(20), true);
        assert!(!term.take_due(from + seconds(93)));
        assert!(term.is_over(from + seconds(94)));
    }

    #[test]
    fn a_shorter_answer_counts_and_none_changes_nothing() {
        let from = Instant::now();
        let mut term = Term::new(from, seconds(60), true);
        term.renewed(from + seconds(40), seconds(0), true);
        assert!(!term.is_over(from + seconds(53)));
        term.renewed(from + seconds(40), seconds(5), true);
        assert!(term.is_over(from + seconds(45)));
    }

    #[test]
    fn the_longest_number_is_no_panic() {
        let from = Instant::now();
        let mut term = Term::new(from, Duration::MAX, true);
        term.renewed(from + seconds(1), Duration::MAX, true);
        assert!(!term.is_over(from + seconds(1_000_000)));
    }
}
