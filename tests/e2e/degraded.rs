//! Layers that this host does not have: accepted by name, or the daemon does not start.

use portcullis_tests::daemon::{Daemon, Options};

use crate::stage::{Stage, binaries};

#[test]
fn a_missing_layer_that_is_not_accepted_keeps_the_daemon_from_starting() {
    let mut options = Options::new("version: 1\nroles: {a: {}}\n", "secret");
    options.accept_degraded = "[]";
    let daemon = Daemon::prepare(&binaries(), &options).expect("files");
    let done = daemon.run_to_end(&[]).expect("ends");
    assert_eq!(done.code(), 1, "{}", done.both());
    assert!(!done.both().contains("ready"), "{}", done.both());
    let line = |start: &str| done.stderr.lines().any(|line| line.starts_with(start));
    assert!(line("layer lsm is missing ("), "{}", done.stderr);
    assert!(done.stderr.contains("it leaves open: "), "{}", done.stderr);
    assert!(
        done.stderr.contains("gate: {accept_degraded: [lsm]}"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_name_of_no_layer_is_refused() {
    let mut options = Options::new("version: 1\nroles: {a: {}}\n", "secret");
    options.accept_degraded = "[lsm, lms]";
    let daemon = Daemon::prepare(&binaries(), &options).expect("files");
    let done = daemon.run_to_end(&[]).expect("ends");
    assert_eq!(done.code(), 1, "{}", done.both());
    assert!(done.stderr.contains("no layer \"lms\""), "{}", done.stderr);
}

#[test]
fn what_is_accepted_is_in_the_log() {
    let stage = Stage::new();
    assert!(
        stage.daemon.log().contains("layer lsm is missing"),
        "{}",
        stage.daemon.log()
    );
}
