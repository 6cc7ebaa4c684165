//! Which name a session last asked for when it was given an address.
//!
//! So a connection to the address has a name, and two services at one address are told
//! apart. Kept somewhat longer than the answer may be, as its user connects afterwards.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wire::TTL;
use crate::types::CgroupId;

const KEPT: Duration = Duration::from_secs(TTL as u64 * 2);

type OfSession = HashMap<IpAddr, (Arc<str>, Instant)>;

/// The names of all sessions. As many as there are sessions and addresses of services.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashMap<CgroupId, OfSession>>);

impl Names {
    pub(super) fn remember(
        &self,
        session: CgroupId,
        name: &Arc<str>,
        addresses: &[IpAddr],
        now: Instant,
    ) {
        let mut all = self.lock();
        let own = all.entry(session).or_default();
        own.retain(|_, (_, asked)| now.duration_since(*asked) < KEPT);
        for address in addresses {
            own.insert(*address, (Arc::clone(name), now));
        }
    }

    /// The name that the session last asked for and got this address.
    pub fn of(&self, session: CgroupId, address: IpAddr, now: Instant) -> Option<Arc<str>> {
        let all = self.lock();
        let (name, asked) = all.get(&session)?.get(&address.to_canonical())?;
        (now.duration_since(*asked) < KEPT).then(|| Arc::clone(name))
    }

    pub(super) fn forget(&self, session: CgroupId) {
        self.lock().remove(&session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CgroupId, OfSession>> {
        // Each entry is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_counts_for_its_session_and_its_time() {
        let names = Names::default();
        let (one, two) = (CgroupId(1), CgroupId(2));
        let address: IpAddr = "192.0.2.1".parse().expect("literal");
        let now = Instant::now();
        names.remember(one, &"a.corp".into(), &[address], now);
        names.remember(one, &"b.corp".into(), &[address], now);
        assert_eq!(names.of(one, address, now).as_deref(), Some("b.corp"));
        assert_eq!(names.of(two, address, now), None);
        assert_eq!(names.of(one, address, now + KEPT), None);
        names.forget(one);
        assert_eq!(names.of(one, address, now), None);
    }

    #[test]
    fn what_is_old_is_let_go() {
        let names = Names::default();
        let (now, session) = (Instant::now(), CgroupId(1));
        for last in 0..=255 {
            let address = IpAddr::from([192, 0, 2, last]);
            names.remember(session, &"a".into(), &[address], now + KEPT * last.into());
        }
        assert_eq!(names.lock()[&session].len(), 1);
    }
}
