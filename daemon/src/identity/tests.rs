use std::path::Path;

use super::session::ATTRIBUTE;
use super::*;
use crate::types::{CgroupId, Principal, SessionId};

fn session(path: &Path, cgroup: u64) -> AgentSession {
    AgentSession::of_test(path, CgroupId(cgroup))
}

/// A directory that stands for a cgroup's. Needs root, and a file system that keeps
/// `trusted` attributes.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("directory")
}

#[test]
fn the_outermost_of_a_chain_is_the_first() {
    let alone = session(Path::new("/x"), 1);
    assert_eq!(alone.outermost(), &alone.id);
    let chain = vec![SessionId::random(), SessionId::random()];
    let first = chain[0].clone();
    let inner = AgentSession {
        chain,
        ..session(Path::new("/x/y"), 2)
    };
    assert_eq!(inner.outermost(), &first);
}

#[test]
fn what_was_stored_is_recalled() {
    let dir = directory();
    let stored = session(dir.path(), 7);
    assert_eq!(
        AgentSession::recall(dir.path(), CgroupId(7)).expect("reads"),
        None
    );
    stored.store().expect("stores");
    let recalled = AgentSession::recall(dir.path(), CgroupId(7)).expect("reads");
    assert_eq!(recalled, Some(stored));
}

#[test]
fn a_session_of_another_directory_is_not_this_ones() {
    let (dir, other) = (directory(), directory());
    // The id was used before, for a cgroup that is gone.
    session(dir.path(), 7).store().expect("stores");
    assert_eq!(
        AgentSession::recall(dir.path(), CgroupId(8)).expect("reads"),
        None
    );
    // Copied from elsewhere.
    let value = xattr::get(dir.path(), ATTRIBUTE)
        .expect("reads")
        .expect("is there");
    xattr::set(other.path(), ATTRIBUTE, &value).expect("writes");
    assert_eq!(
        AgentSession::recall(other.path(), CgroupId(7)).expect("reads"),
        None
    );
}

#[test]
fn an_attribute_that_is_no_session_is_an_error() {
    let dir = directory();
    for broken in [&b"{}"[..], b"", b"\xff"] {
        xattr::set(dir.path(), ATTRIBUTE, broken).expect("writes");
        assert!(AgentSession::recall(dir.path(), CgroupId(7)).is_err());
    }
}

#[test]
fn only_the_living_are_found_and_the_ended_stay_known() {
    let registry = Registry::default();
    let one = session(Path::new("/sys/fs/cgroup/x"), 1);
    registry.insert(one.clone());
    registry.insert(session(Path::new("/sys/fs/cgroup/y"), 2));
    let live = registry.find(CgroupId(1)).expect("lives");
    let mut end = live.end();
    assert!(registry.find(CgroupId(3)).is_none() && !*end.borrow_and_update());
    registry.update(AgentSession {
        ending: Some(Ending::Revoked),
        ..one.clone()
    });
    assert!(registry.find(CgroupId(1)).is_none());
    assert_eq!(live.alive().err(), Some(Ending::Revoked));
    assert!(end.has_changed().expect("told") && *end.borrow_and_update());
    assert_eq!(registry.by_id(one.id.as_str()).expect("known").id, one.id);
    registry.remove(CgroupId(1));
    assert!(registry.known(CgroupId(1)).is_none());
    assert_eq!((registry.len(), registry.is_empty()), (1, false));
}

#[test]
fn an_update_of_another_session_in_the_same_cgroup_changes_nothing() {
    let registry = Registry::default();
    let old = session(Path::new("/sys/fs/cgroup/x"), 1);
    registry.insert(session(Path::new("/sys/fs/cgroup/x"), 1));
    registry.update(AgentSession {
        ending: Some(Ending::Revoked),
        ..old
    });
    assert!(registry.find(CgroupId(1)).is_some());
}

#[test]
fn whichever_clock_is_first_ends_it() {
    let at = |wall, boot| Now::of(wall, boot);
    let expiry = Expiry::at(1_000, at(900, 5_000));
    assert!(!expiry.has_passed(at(999, 104_999)));
    assert!(expiry.has_passed(at(1_000, 5_000)));
    // The wall clock was set back by an hour.
    assert!(expiry.has_passed(at(-2_600, 105_000)));
    // Long over when it was made.
    assert!(Expiry::at(1, at(900, 5_000)).has_passed(at(0, 5_000)));
}

#[test]
fn the_nearer_end_counts_by_each_clock() {
    let now = Now::of(0, 0);
    let (near, far) = (Expiry::at(10, now), Expiry::at(20, now));
    assert_eq!(Expiry::nearer(Some(far), Some(near)), Some(near));
    assert_eq!(Expiry::nearer(None, Some(far)), Some(far));
    assert_eq!(Expiry::nearer(None, None), None);
}

#[test]
fn a_session_past_its_end_is_not_found_even_before_anybody_ended_it() {
    let registry = Registry::default();
    let now = Now::read().expect("clocks");
    registry.insert(AgentSession {
        expiry: Some(Expiry::at(now.wall - 1, now)),
        ..session(Path::new("/sys/fs/cgroup/x"), 1)
    });
    assert!(registry.find(CgroupId(1)).is_none());
}

#[test]
fn no_renewal_lifts_a_limit_or_passes_the_outer_end() {
    let now = Now::of(0, 0);
    let at = |wall| Some(Expiry::at(wall, now));
    let mut old = session(Path::new("/sys/fs/cgroup/x"), 1);
    old.principal.only = Some(["reader".into()].into());
    for (limit, proven, outer, end) in [
        (None, at(300), None, at(300)),
        (at(100), at(300), None, at(100)),
        (at(100), at(300), at(50), at(50)),
        (None, at(300), at(200), at(200)),
        (at(400), None, None, at(400)),
        (None, None, None, None),
    ] {
        old.limit = limit;
        // Whatever it was before.
        old.expiry = at(1);
        let new = old.renewed(&Principal::named("fresh"), proven, outer);
        assert_eq!((new.expiry, new.limit), (end, limit));
        assert_eq!(&*new.principal.name, "fresh");
        assert_eq!(new.principal.only, old.principal.only, "never wider");
    }
}

#[test]
fn a_directory_of_the_same_name_is_not_in_place() {
    use std::os::unix::fs::MetadataExt;
    let dir = directory();
    let path = dir.path().join("unit");
    std::fs::create_dir(&path).expect("mkdir");
    let number = std::fs::metadata(&path).expect("stat").ino();
    assert!(session(&path, number).is_in_place().expect("stat"));
    assert!(!session(&path, number + 1).is_in_place().expect("stat"));
    std::fs::remove_dir(&path).expect("rmdir");
    let gone = session(&path, number).is_in_place().expect_err("gone");
    assert!(is_gone(&gone));
    for number in [libc::EMFILE, libc::ENFILE, libc::EIO, libc::EACCES] {
        assert!(!is_gone(&std::io::Error::from_raw_os_error(number)));
    }
}
