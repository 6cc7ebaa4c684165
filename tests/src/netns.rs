//! A network namespace of a test's own, entered only by threads made for it.

use std::fs::File;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace with nothing in it but a loopback device that is down. It goes
/// when the last socket, process and descriptor of it is gone.
#[derive(Debug)]
pub struct TestNetns {
    file: File,
}

impl TestNetns {
    /// Makes one, on a thread that ends with it.
    ///
    /// # Errors
    /// `unshare(CLONE_NEWNET)` is not permitted.
    pub fn new() -> Result<Self> {
        let file = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
            File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")
        })?;
        Ok(Self { file })
    }

    /// Runs `work` inside, on a thread of its own. Processes that it starts stay inside.
    ///
    /// # Errors
    /// `setns` is not permitted, or what `work` gives.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).context("setns")?;
            work()
        })
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| anyhow!("the thread in the namespace panicked"))?
}
