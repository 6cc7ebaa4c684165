//! A network namespace of a test's own, entered only by threads made for it.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process;

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

/// A network namespace with a name, as `ip netns add` makes it. Dropping it removes the name.
#[derive(Debug)]
pub struct NamedNetns {
    name: String,
}

impl NamedNetns {
    /// Makes one that no other test has.
    ///
    /// # Errors
    /// `ip netns add` fails.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    /// Its name below `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ties it to another with a pair of virtual Ethernet devices, both up: this end has
    /// the address 198.51.100.1, the other 198.51.100.2.
    ///
    /// # Errors
    /// The devices can't be made.
    pub fn join(&self, other: &Self) -> Result<()> {
        let (a, b) = (self.name.as_str(), other.name.as_str());
        let pair = ["link", "add", "v0", "type", "veth", "peer", "name", "v0"];
        let pair: Vec<&str> = ["-n", a].into_iter().chain(pair).collect();
        ip(&[pair.as_slice(), &["netns", b]].concat())?;
        for (name, address) in [(a, "198.51.100.1/24"), (b, "198.51.100.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", "v0"])?;
            ip(&["-n", name, "link", "set", "v0", "up"])?;
        }
        Ok(())
    }

    /// Runs `work` inside, on a thread of its own.
    ///
    /// # Errors
    /// `setns` is not permitted, or what `work` gives.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            let file = File::open(format!("/run/netns/{}", self.name)).context("netns")?;
            setns(&file, CloneFlags::CLONE_NEWNET).context("setns")?;
            work()
        })
    }
}

impl Drop for NamedNetns {
    fn drop(&mut self) {
        // A test may have removed it already.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    process::check(Command::new("ip").args(args), "", Duration::from_secs(10)).map(drop)
}
