use super::*;

fn session(path: &Path, cgroup: u64) -> AgentSession {
    AgentSession {
        id: SessionId::random(),
        principal: Principal::named("analyst"),
        path: path.to_owned(),
        cgroup: CgroupId(cgroup),
        uid: 1000,
        started: "2026-01-01T00:00:00Z".into(),
    }
}

/// A directory that stands for a cgroup's; none where its attributes can't be written.
fn directory() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().expect("directory");
    let written = xattr::set(dir.path(), "trusted.portcullis.test", b"x");
    if let Err(error) = &written {
        eprintln!("not tested: {error}");
    }
    written.ok().map(|()| dir)
}

#[test]
fn what_was_stored_is_recalled() {
    let Some(dir) = directory() else { return };
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
    let (Some(dir), Some(other)) = (directory(), directory()) else {
        return;
    };
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
    let Some(dir) = directory() else { return };
    for broken in [&b"{}"[..], b"", b"\xff"] {
        xattr::set(dir.path(), ATTRIBUTE, broken).expect("writes");
        assert!(AgentSession::recall(dir.path(), CgroupId(7)).is_err());
    }
}

#[test]
fn the_registry_knows_the_living() {
    let registry = Registry::default();
    let path = Path::new("/sys/fs/cgroup/x");
    let one = registry.insert(session(path, 1));
    registry.insert(session(path, 2));
    assert_eq!(registry.find(CgroupId(1)), Some(one));
    assert_eq!(registry.find(CgroupId(3)), None);
    registry.remove(CgroupId(1));
    assert_eq!(registry.find(CgroupId(1)), None);
    assert_eq!((registry.len(), registry.is_empty()), (1, false));
}
