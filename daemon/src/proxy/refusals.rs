//! Says in our own log why connections fail, at most once a second for each reason, so
//! that an agent that tries ten thousand times does not fill it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(1);
const REASONS: usize = 1024;

/// What was said last, and how often it was swallowed since.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    said: Mutex<HashMap<String, (Instant, u64)>>,
}

impl RefusalLog {
    /// Logs `reason`, unless it was logged within the last second.
    pub(super) fn say(&self, reason: &str) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() > REASONS {
            said.clear();
        }
        let swallowed = match said.get_mut(reason) {
            Some((last, swallowed)) if now.duration_since(*last) < PAUSE => {
                *swallowed += 1;
                return;
            }
            Some((_, swallowed)) => *swallowed,
            None => 0,
        };
        said.insert(reason.to_owned(), (now, 0));
        drop(said);
        tracing::warn!(swallowed, "{reason}");
    }
}
