//! Keeps a thread awake for a moment after it has passed something on.
//!
//! Where one agent asks and one server answers, most of a short statement's time goes into
//! waking threads up. The next bytes are likely to come within microseconds: until
//! [`WINDOW`] has passed, the thread looks for them without going to sleep. Only while at
//! most one connection is busy: with more, there is something to do anyway, and others
//! need the processor.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// How long it looks. The answer to a point query comes sooner.
const WINDOW: Duration = Duration::from_micros(50);

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    static AWAKE: RefCell<Option<Arc<Notify>>> = const { RefCell::new(None) };
}

/// Something was passed on, on this thread; `busy` connections have operations that run.
pub(super) fn passed(busy: usize) {
    if busy > 1 {
        UNTIL.set(None);
        return;
    }
    // Whoever is awake sees it; whoever sleeps is told.
    if UNTIL.replace(Some(Instant::now() + WINDOW)).is_none() {
        AWAKE.with_borrow(|awake| {
            if let Some(awake) = awake {
                awake.notify_one();
            }
        });
    }
}

/// The helper of a serving thread: while it has something to do, the runtime only looks for
/// events and does not wait for them.
pub(super) async fn keep_awake() {
    let awake = Arc::new(Notify::new());
    AWAKE.set(Some(Arc::clone(&awake)));
    loop {
        awake.notified().await;
        while let Some(until) = UNTIL.get() {
            if Instant::now() >= until {
                UNTIL.set(None);
            }
            yield_now().await;
        }
    }
}
