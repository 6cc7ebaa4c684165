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
    /// The daemon stops.
    pub(super) draining: bool,
}

struct Sources {
    draining: watch::Receiver<bool>,
    session: watch::Receiver<bool>,
    left: Left,
}

impl Outside {
    pub(super) fn new(
        startup: Duration,
        draining: watch::Receiver<bool>,
        session: watch::Receiver<bool>,
        left: Left,
    ) -> Self {
        let now = *draining.borrow();
        let sources = Sources {
            draining,
            session,
            left,
        };
        Self {
            news: Box::pin(sources.next()),
            late: Some(Box::pin(sleep_until(Instant::now() + startup))),
            draining: now,
        }
    }

    /// The next of it. May be dropped and asked for again.
    pub(super) async fn next(&mut self, starting: bool) -> Heard {
        if !starting {
            self.late = None;
        }
        poll_fn(|cx| {
            if let Poll::Ready((heard, sources)) = self.news.as_mut().poll(cx) {
                self.news = Box::pin(sources.next());
                self.draining |= matches!(heard, Heard::Draining);
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
            () = self.left.wait() => Heard::Left,
        };
        (heard, self)
    }
}
