//! What may end a connection from outside, waited for as one.
//!
//! The wait is made once and kept over all turns of the connection: to register anew for
//! each message would cost more than to pass the message on.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::listener::Left;

/// What was heard.
pub(super) enum Heard {
    /// The daemon stops.
    Draining,
    /// The agent session has ended.
    SessionEnded,
    /// Another policy is in force.
    PolicyChanged,
    /// No agent is left in the network namespace.
    Left,
    /// The time for the start-up is over.
    TooLate,
}

type News = Pin<Box<dyn Future<Output = (Heard, Sources)> + Send>>;

/// The wait.
pub(super) struct Outside {
    news: News,
    /// The end of the time for the start-up; none once it has passed.
    late: Option<Pin<Box<Sleep>>>,
    /// Never listened to: it tells what has changed since it was made.
    drain: watch::Receiver<bool>,
    /// The daemon was stopping then.
    draining: bool,
}

struct Sources {
    draining: watch::Receiver<bool>,
    session: watch::Receiver<bool>,
    policy: watch::Receiver<u64>,
    left: Left,
}

impl Outside {
    pub(super) fn new(
        startup: Duration,
        draining: watch::Receiver<bool>,
        session: watch::Receiver<bool>,
        policy: watch::Receiver<u64>,
        left: Left,
    ) -> Self {
        let (now, drain) = (*draining.borrow(), draining.clone());
        let sources = Sources {
            draining,
            session,
            policy,
            left,
        };
        Self {
            news: Box::pin(sources.next()),
            late: Some(Box::pin(sleep_until(Instant::now() + startup))),
            drain,
            draining: now,
        }
    }

    /// Whether the daemon stops. Costs next to nothing, and needs no wait: where something
    /// moves all the time, there is none.
    pub(super) fn is_draining(&self) -> bool {
        // Set once, and never back.
        self.draining || self.drain.has_changed().unwrap_or(true)
    }

    /// The next of it. May be dropped and asked for again.
    pub(super) async fn next(&mut self, starting: bool) -> Heard {
        if !starting {
            self.late = None;
        }
        poll_fn(|cx| {
            if let Poll::Ready((heard, sources)) = self.news.as_mut().poll(cx) {
                self.news = Box::pin(sources.next());
                return Poll::Ready(heard);
            }
            match &mut self.late {
                Some(late) => late.as_mut().poll(cx).map(|()| Heard::TooLate),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Sources {
    async fn next(mut self) -> (Heard, Self) {
        let heard = tokio::select! {
            Ok(()) = self.draining.changed() => Heard::Draining,
            Ok(()) = self.session.changed() => Heard::SessionEnded,
            Ok(()) = self.policy.changed() => Heard::PolicyChanged,
            () = self.left.wait() => Heard::Left,
        };
        (heard, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_daemon_stops_is_seen_by_who_never_waits_for_it() {
        let (draining, session) = (watch::Sender::new(false), watch::Sender::new(false));
        let policy = watch::Sender::new(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.expect("runtime");
        let _inside = runtime.enter();
        let outside = || {
            let left = Left::of(watch::channel(()).1);
            let (draining, session) = (draining.subscribe(), session.subscribe());
            Outside::new(
                Duration::from_secs(10),
                draining,
                session,
                policy.subscribe(),
                left,
            )
        };
        let early = outside();
        assert!(!early.is_draining());
        draining.send_replace(true);
        assert!(early.is_draining());
        assert!(outside().is_draining(), "from then on");
    }
}
