//! When an issuer's keys are used, fetched anew, or no longer good. Pure: `now` is the time
//! since the daemon's start, by a clock that nobody can set.

use std::sync::Arc;
use std::time::Duration;

use super::keys::KeySet;
use super::refusal::TokenRefusal;

/// How long keys serve without being asked for again, whatever the issuer says.
const FRESH: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(3600);
/// When the issuer says nothing.
const FRESH_BY_DEFAULT: Duration = Duration::from_secs(300);
/// From one question for an unknown key to the next, and from a failure to the next try:
/// who sends forged tokens must not make us flood the issuer.
const PAUSE: Duration = Duration::from_secs(10);

/// The keys of one issuer and how old they are.
#[derive(Debug, Default)]
pub(super) struct Cache {
    held: Option<Held>,
    /// The last time that we asked for a key that the set did not have.
    missed: Option<Duration>,
    /// The last failure, if nothing has worked since.
    failure: Option<(Duration, String)>,
}

#[derive(Debug)]
struct Held {
    keys: Arc<KeySet>,
    since: Duration,
    fresh: Duration,
}

/// What to do for a token.
#[derive(Debug)]
pub(super) enum Step {
    Use(Arc<KeySet>),
    Fetch,
    Refuse(TokenRefusal),
}

impl Cache {
    /// For a token that a key `kid` has signed.
    pub(super) fn step(&self, kid: &str, now: Duration, keep: Duration) -> Step {
        if self.wants_fetch(kid, now) {
            Step::Fetch
        } else {
            self.best(kid, now, keep)
        }
    }

    fn wants_fetch(&self, kid: &str, now: Duration) -> bool {
        let rested = |last: Duration| now.saturating_sub(last) >= PAUSE;
        if !self.failure.as_ref().is_none_or(|(last, _)| rested(*last)) {
            return false;
        }
        match &self.held {
            Some(held) if held.is_fresh(now) => {
                !held.keys.has(kid) && self.missed.is_none_or(rested)
            }
            _ => true,
        }
    }

    /// The answer when nobody can be asked, or has just been.
    pub(super) fn best(&self, kid: &str, now: Duration, keep: Duration) -> Step {
        let problem = self.failure.as_ref().map(|(_, problem)| problem.clone());
        let usable = |held: &&Held| held.is_fresh(now) || now.saturating_sub(held.since) < keep;
        match (self.held.as_ref().filter(usable), problem) {
            // Whether the key is unknown is not known while the issuer is silent.
            (Some(held), Some(problem)) if !held.keys.has(kid) => {
                Step::Refuse(TokenRefusal::NoKeys(problem))
            }
            (Some(held), _) => Step::Use(Arc::clone(&held.keys)),
            (None, problem) => {
                let problem = problem.unwrap_or_else(|| "they are too old".into());
                Step::Refuse(TokenRefusal::NoKeys(problem))
            }
        }
    }

    /// The issuer has answered a question for `kid`; `max_age` is what it said of caching.
    pub(super) fn fetched(
        &mut self,
        kid: &str,
        now: Duration,
        keys: KeySet,
        max_age: Option<Duration>,
    ) {
        if !keys.has(kid) {
            self.missed = Some(now);
        }
        let fresh = max_age.unwrap_or(FRESH_BY_DEFAULT);
        self.held = Some(Held {
            keys: Arc::new(keys),
            since: now,
            fresh: fresh.clamp(*FRESH.start(), *FRESH.end()),
        });
        self.failure = None;
    }

    /// The issuer has not answered, or not with keys.
    pub(super) fn failed(&mut self, now: Duration, problem: String) {
        self.failure = Some((now, problem));
    }
}

impl Held {
    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) < self.fresh
    }
}

/// `max-age` of a Cache-Control header (RFC 9111, section 5.2.2.1); zero for `no-store` and
/// `no-cache`.
pub(super) fn max_age(header: &str) -> Option<Duration> {
    let mut found = None;
    for part in header.split(',') {
        let part = part.trim().to_ascii_lowercase();
        if part == "no-store" || part == "no-cache" {
            return Some(Duration::ZERO);
        }
        if let Some(number) = part.strip_prefix("max-age=") {
            found = number.trim_matches('"').parse().ok();
        }
    }
    found.map(Duration::from_secs)
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
