//! How many refusals of one session are recorded: a flood is counted, not written.
//!
//! One session's flood takes nothing from the others' records. Pure: the time comes in.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The records of one second.
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct State<T> {
    since: Instant,
    recorded: u32,
    dropped: u64,
    /// Who it was: the session may be gone when its flood ends.
    who: Option<T>,
}

/// The sessions that were refused something lately.
#[derive(Debug)]
pub struct Flood<K, T> {
    limit: u32,
    sessions: HashMap<K, State<T>>,
}

impl<K: Copy + Eq + Hash, T> Flood<K, T> {
    /// Records `limit` refusals of each session in a second.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            sessions: HashMap::new(),
        }
    }

    /// Whether to record this refusal: with how many were dropped since the last one.
    pub fn admit(&mut self, session: K, now: Instant) -> Option<u64> {
        let state = self.sessions.entry(session).or_insert(State {
            since: now,
            recorded: 0,
            dropped: 0,
            who: None,
        });
        if now.duration_since(state.since) >= WINDOW {
            state.since = now;
            state.recorded = 0;
        }
        if state.recorded >= self.limit {
            state.dropped += 1;
            return None;
        }
        state.recorded += 1;
        Some(std::mem::take(&mut state.dropped))
    }

    /// Keeps what the records of this session say of it, for the one at a flood's end.
    pub fn keep(&mut self, session: K, who: T) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.who.get_or_insert(who);
        }
    }

    /// Forgets a session: how many were dropped since its last record.
    pub fn forget(&mut self, session: K) -> u64 {
        let state = self.sessions.remove(&session);
        state.map_or(0, |state| state.dropped)
    }

    /// Sessions whose flood has ended, with what was dropped since their last record. To
    /// be asked about once a second; quiet sessions are forgotten.
    pub fn ended(&mut self, now: Instant) -> Vec<(Option<T>, u64)> {
        let mut ended = Vec::new();
        self.sessions.retain(|_, state| {
            let quiet = now.duration_since(state.since) >= WINDOW;
            if quiet && state.dropped > 0 {
                ended.push((state.who.take(), state.dropped));
            }
            !quiet
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_its_own_limit() {
        let (mut flood, now) = (Flood::<_, ()>::new(2), Instant::now());
        let mut ask = |session, millis| flood.admit(session, now + Duration::from_millis(millis));
        assert_eq!(
            [ask(1, 0), ask(1, 1), ask(1, 2), ask(1, 3)],
            [Some(0), Some(0), None, None]
        );
        assert_eq!(ask(2, 3), Some(0));
        assert_eq!(ask(1, 1000), Some(2));
        assert_eq!(ask(1, 1001), Some(0));
    }

    #[test]
    fn the_end_of_a_flood_tells_what_was_dropped() {
        let (mut flood, now) = (Flood::new(1), Instant::now());
        for _ in 0..5 {
            flood.admit(7, now);
            flood.keep(7, "seven");
        }
        flood.admit(8, now);
        assert!(flood.ended(now + Duration::from_millis(500)).is_empty());
        assert_eq!(
            flood.ended(now + Duration::from_secs(1)),
            [(Some("seven"), 4)]
        );
        assert!(flood.ended(now + Duration::from_secs(2)).is_empty());
        assert!(flood.sessions.is_empty());
    }
}
