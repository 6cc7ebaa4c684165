//! Sharing, keeping, renewing, giving back: the clock is the test's.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::{advance, sleep};

use super::*;

/// Counts what it is asked.
#[derive(Default)]
struct Counted {
    fetched: AtomicU32,
    renewed: AtomicU32,
    revoked: AtomicU32,
    fails: bool,
    lease: Option<u64>,
    /// Renewing is none of what the token may do.
    denied: bool,
}

struct Handle(Arc<Counted>);

impl Source for Handle {
    fn fetch<'a>(&'a self, _permit: &'a Permit) -> Pending<'a, Fetched> {
        Box::pin(async {
            let number = self.0.fetched.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(Duration::from_millis(100)).await;
            if self.0.fails {
                return Err(VaultError::Sealed("here".into()));
            }
            Ok(Fetched {
                credential: Secret::new(format!("pw{number}")).into(),
                lease: self.0.lease.map(|seconds| Lease {
                    id: Some(format!("lease{number}")),
                    lasts: Duration::from_secs(seconds),
                    renewable: true,
                    token: None,
                }),
            })
        })
    }

    fn renew<'a>(&'a self, _id: &'a str) -> Pending<'a, Duration> {
        Box::pin(async {
            // The third time is one too many, as for a lease at its longest.
            let number = self.0.renewed.fetch_add(1, Ordering::SeqCst);
            match number {
                _ if self.0.denied => Err(VaultError::Denied { what: "x".into() }),
                0 | 1 => Ok(Duration::from_secs(60)),
                _ => Err(VaultError::Status {
                    what: "x".into(),
                    status: 400,
                }),
            }
        })
    }

    fn revoke<'a>(&'a self, _id: &'a str) -> Pending<'a, ()> {
        Box::pin(async {
            self.0.revoked.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

fn counted(lease: Option<u64>, fails: bool) -> (Arc<Counted>, Arc<Shared>) {
    shared(Counted {
        lease,
        fails,
        ..Counted::default()
    })
}

fn shared(counted: Counted) -> (Arc<Counted>, Arc<Shared>) {
    let counted = Arc::new(counted);
    let shared = Shared::new(Box::new(Handle(Arc::clone(&counted))));
    (counted, Arc::new(shared))
}

/// Of one that is not closed.
async fn ask(shared: &Arc<Shared>, permit: &Permit) -> Result<Handed, Arc<VaultError>> {
    shared.credential(permit).await.expect("open")
}

fn count(of: &AtomicU32) -> u32 {
    of.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_at_once_are_one_fetch() {
    for (lease, fails) in [(None, false), (Some(60), false), (None, true)] {
        let (counted, shared) = counted(lease, fails);
        let permit = Arc::new(permit());
        let mut all = JoinSet::new();
        for _ in 0..100 {
            let (shared, permit) = (Arc::clone(&shared), Arc::clone(&permit));
            all.spawn(async move { ask(&shared, &permit).await.is_ok() });
        }
        let good = all.join_all().await;
        assert!(good.iter().all(|good| *good != fails));
        assert_eq!(count(&counted.fetched), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_lease_is_read_anew() {
    let (counted, shared) = counted(None, false);
    for number in 1..=3 {
        let given = ask(&shared, &permit()).await.expect("there");
        assert_eq!(text(&given), format!("pw{number}"));
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(count(&counted.fetched), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_renewed_and_given_back() {
    let (counted, shared) = counted(Some(60), false);
    let permit = permit();
    ask(&shared, &permit).await.expect("there");
    for _ in 0..(50 * 2) {
        advance(TICK).await;
        shared.keep().await;
        let given = ask(&shared, &permit).await.expect("kept");
        assert_eq!(text(&given), "pw1");
    }
    assert_eq!((count(&counted.fetched), count(&counted.renewed)), (1, 1));
    shared.give_back().await;
    assert_eq!(count(&counted.revoked), 1);
    shared.give_back().await;
    assert_eq!(count(&counted.revoked), 1, "once");
    assert!(shared.credential(&permit).await.is_none(), "closed");
    assert_eq!(count(&counted.fetched), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_server_ends_is_got_anew() {
    let (counted, shared) = counted(Some(60), false);
    let permit = permit();
    while count(&counted.renewed) < 3 {
        let given = ask(&shared, &permit).await.expect("there");
        assert_eq!(text(&given), "pw1");
        advance(TICK).await;
        shared.keep().await;
    }
    // At once: by its last renewal it would last for many seconds more.
    let given = ask(&shared, &permit).await.expect("there");
    assert_eq!(text(&given), "pw2");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_denied_is_not_asked_for_again() {
    let (counted, shared) = shared(Counted {
        lease: Some(60),
        denied: true,
        ..Counted::default()
    });
    let permit = permit();
    for _ in 0..(50 * 2) {
        let given = ask(&shared, &permit).await.expect("there");
        assert_eq!(text(&given), "pw1");
        advance(TICK).await;
        shared.keep().await;
    }
    assert_eq!((count(&counted.fetched), count(&counted.renewed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_kept() {
    let (counted, shared) = counted(Some(60), false);
    let asking = Arc::clone(&shared);
    let asking = tokio::spawn(async move { asking.credential(&permit()).await.is_some() });
    sleep(Duration::from_millis(50)).await;
    asking.abort();
    let given = ask(&shared, &permit()).await.expect("there");
    assert_eq!(text(&given), "pw1");
    shared.give_back().await;
    assert_eq!((count(&counted.fetched), count(&counted.revoked)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_distrust_in_a_while_and_of_the_last_only() {
    let (counted, shared) = counted(Some(60), false);
    let first = ask(&shared, &permit()).await.expect("there");
    shared.distrust(&first.stamp);
    let second = ask(&shared, &permit()).await.expect("there");
    shared.distrust(&second.stamp);
    let same = ask(&shared, &permit()).await.expect("there");
    assert_eq!((text(&second), text(&same)), ("pw2".into(), "pw2".into()));
    advance(shared::PAUSE).await;
    shared.distrust(&first.stamp);
    let same = ask(&shared, &permit()).await.expect("there");
    assert_eq!(text(&same), "pw2");
    shared.distrust(&second.stamp);
    let third = ask(&shared, &permit()).await.expect("there");
    assert_eq!(text(&third), "pw3");
    shared.give_back().await;
    assert_eq!(count(&counted.revoked), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_renews_is_not_used_to_its_last_second() {
    let (counted, shared) = counted(Some(10), false);
    let permit = permit();
    ask(&shared, &permit).await.expect("there");
    advance(Duration::from_millis(8_800)).await;
    ask(&shared, &permit).await.expect("there");
    assert_eq!(count(&counted.fetched), 1);
    advance(Duration::from_millis(200)).await;
    ask(&shared, &permit).await.expect("there");
    assert_eq!(count(&counted.fetched), 2);
}

#[tokio::test(start_paused = true)]
async fn giving_back_waits_for_a_fetch_under_way() {
    let (counted, shared) = counted(Some(60), false);
    let asking = Arc::clone(&shared);
    let asking = tokio::spawn(async move { asking.credential(&permit()).await.is_none() });
    sleep(Duration::from_millis(50)).await;
    shared.give_back().await;
    // Now, not later: the daemon ends after this.
    assert_eq!((count(&counted.fetched), count(&counted.revoked)), (1, 1));
    assert!(asking.await.expect("runs"), "to be looked up anew");
}
