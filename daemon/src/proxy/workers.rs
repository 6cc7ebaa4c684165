//! The threads that serve connections: one for each core, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, so that on the way of an
//! operation nothing wakes another thread; a new one goes to the thread with the fewest.
//! Beside the connections each thread has two helpers of its own, [`batch`](super::batch)
//! and [`linger`](super::linger). Policies, the control socket and kernel events are on the
//! daemon's main runtime. Absent on purpose: moving a connection later.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};

use super::linger;

/// The serving threads. They end with the process.
pub struct Workers(Box<[Worker]>);

struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    load: Arc<AtomicUsize>,
}

/// Counts a connection of a worker for as long as it lives.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads, at least one, with so many bytes of stack; each calls
    /// `begin` first.
    ///
    /// # Errors
    /// The kernel gives no thread, or no epoll.
    pub fn start(count: usize, stack: usize, begin: fn()) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(|number| Worker::start(number, stack, begin));
        workers.collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection on the thread that has the fewest.
    pub(super) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let load = |worker: &&Worker| worker.load.load(Ordering::Relaxed);
        let Some(worker) = self.0.iter().min_by_key(load) else {
            return;
        };
        worker.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(Arc::clone(&worker.load));
        worker.runtime.spawn(async move {
            connection.await;
            drop(load);
        });
    }
}

impl Worker {
    fn start(number: usize, stack: usize, begin: fn()) -> io::Result<Self> {
        // Its blocking threads, should it ever have some, begin like itself.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(stack)
            .on_thread_start(begin)
            .build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name(format!("serve-{number}"))
            .stack_size(stack)
            .spawn(move || {
                begin();
                runtime.spawn(linger::keep_awake());
                runtime.block_on(std::future::pending::<()>());
            })?;
        Ok(Self {
            runtime: handle,
            load: Arc::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use tokio::sync::{mpsc, watch};

    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_stay_where_they_are() {
        let workers = Workers::start(2, 1 << 20, || {}).expect("threads");
        let places: Arc<Mutex<HashMap<ThreadId, usize>>> = Arc::default();
        let (go, gone) = watch::channel(false);
        let (done, mut dones) = mpsc::unbounded_channel();
        for _ in 0..6 {
            let (places, mut gone, done) = (Arc::clone(&places), gone.clone(), done.clone());
            workers.serve(async move {
                let here = thread::current().id();
                *places.lock().expect("map").entry(here).or_default() += 1;
                // Woken from another thread, it goes on where it was.
                gone.changed().await.expect("a word");
                done.send(thread::current().id() == here).expect("heard");
            });
        }
        drop(done);
        go.send(true).expect("heard");
        while let Some(stayed) = dones.blocking_recv() {
            assert!(stayed);
        }
        let places = places.lock().expect("map");
        assert_eq!(places.values().copied().collect::<Vec<_>>(), [3, 3]);
        assert!(!places.contains_key(&thread::current().id()));
    }
}
