//! Policy and configuration files that are broken at start: fatal, with file and line.

use std::fs;
use std::time::Duration;

use portcullis_tests::process::Finished;
use portcullis_tests::wait;

use crate::stage::Stage;

fn start_with(policy: &str) -> (Stage, Finished) {
    let stage = Stage::unstarted(|options| options.policy = policy.into());
    let done = stage.daemon.run_to_end(&[]).expect("ends");
    assert_eq!(done.code(), 1, "{}", done.both());
    assert!(done.stderr.contains("portcullisd: "), "{}", done.stderr);
    (stage, done)
}

#[test]
fn a_broken_policy_is_fatal_with_its_line() {
    for (policy, part) in [
        ("version: 1\nroles:\n  a: [\n", "policy.yaml:"),
        ("version: 1\nroles: {a: {}}\nrulez: []\n", "rulez"),
        ("version: 9\n", "version"),
        ("", "policy.yaml"),
        ("\u{0}\u{1}\u{2}", "policy.yaml"),
    ] {
        let (_stage, done) = start_with(policy);
        assert!(done.stderr.contains(part), "{policy:?}: {}", done.stderr);
    }
}

#[test]
fn an_unknown_verb_gets_a_suggestion() {
    let policy = "version: 1\nroles: {a: {}}\nrules:\n  - {id: x, role: a, allow: [sql.selct], on: [shop]}\n";
    let (_stage, done) = start_with(policy);
    assert!(done.stderr.contains("sql.select"), "{}", done.stderr);
    assert!(done.stderr.contains("policy.yaml:4"), "{}", done.stderr);
}

#[test]
fn a_missing_policy_is_fatal() {
    let stage = Stage::unstarted(|_| ());
    fs::remove_file(stage.daemon.policy_path()).expect("remove");
    assert_eq!(stage.daemon.run_to_end(&[]).expect("ends").code(), 1);
    fs::remove_dir(stage.daemon.path("policies")).expect("rmdir");
    let done = stage.daemon.run_to_end(&[]).expect("ends");
    assert_eq!(done.code(), 1);
    assert!(done.stderr.contains("policies"), "{}", done.stderr);
}

#[test]
fn an_unknown_key_of_the_configuration_is_fatal() {
    let stage = Stage::unstarted(|_| ());
    let config = fs::read_to_string(stage.daemon.config()).expect("read");
    fs::write(stage.daemon.config(), config + "surprise: true\n").expect("write");
    let done = stage.daemon.run_to_end(&[]).expect("ends");
    assert_eq!(done.code(), 1);
    assert!(done.stderr.contains("surprise"), "{}", done.stderr);
}

#[test]
fn check_judges_the_files_and_starts_nothing() {
    let stage = Stage::unstarted(|_| ());
    let done = stage.daemon.run_to_end(&["--check"]).expect("ends");
    assert_eq!(done.code(), 0, "{}", done.both());
    assert!(stage.daemon.leftovers().find().is_empty());
    stage
        .daemon
        .write_policy("version: 1\nrulez: []\n")
        .expect("write");
    assert_eq!(
        stage.daemon.run_to_end(&["--check"]).expect("ends").code(),
        1
    );
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut stage = Stage::unstarted(|_| ());
    let secret = stage.daemon.path("secrets/shop");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("chmod");
    // It may still be put right, so the daemon starts, and says so; nobody gets in with it.
    stage.daemon.launch().expect("starts");
    let log = stage.daemon.log();
    assert!(log.contains("secrets/shop has mode 0644"), "{log}");
    assert_ne!(stage.psql("SELECT 1").code(), 0);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    stage.assert_works();
}

#[test]
fn an_issuer_that_only_the_policy_knows_is_worth_a_word_at_each_load() {
    let asking = |name: &str| {
        format!(
            "version: 1\nroles:\n  a: {{when: [{{issuer: 'https://listed.example'}}, \
             {{issuer: 'https://{name}.example'}}]}}\n"
        )
    };
    let mut stage = Stage::unstarted(|options| {
        options.policy = asking("one");
        options.extra =
            "identity: {issuers: [{issuer: 'https://listed.example', audience: a}]}\n".into();
    });
    stage.daemon.launch().expect("starts");
    let said = |name: &str| {
        let told = format!("tokens of `https://{name}.example`");
        stage.daemon.log().matches(&told).count()
    };
    assert_eq!((said("one"), said("listed")), (1, 0), "at the start");
    stage.daemon.write_policy(&asking("two")).expect("write");
    wait::until("the next load", Duration::from_secs(10), || {
        Ok((said("two") == 1).then_some(()))
    })
    .expect("at the reload");
    assert_eq!((said("one"), said("listed")), (1, 0));
}
