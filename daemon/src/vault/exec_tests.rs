use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn program(directory: &Path, script: &str) -> PathBuf {
    let (path, text) = (directory.join("helper"), directory.join("text"));
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("write");
    // Copied by another process: a descriptor of ours that is open for writing would be
    // inherited by what other tests start meanwhile, and the program then be busy.
    let copied = Command::new("install")
        .args(["-m", "700"])
        .args([&text, &path])
        .status();
    assert!(copied.expect("install").success());
    path
}

fn helper(path: &Path, format: HelperFormat) -> Helper {
    Helper {
        argv: vec![path.display().to_string(), "a b".into(), "$HOME".into()],
        timeout: Duration::from_secs(10),
        format,
    }
}

fn ran(script: &str, format: HelperFormat) -> Result<Fetched, String> {
    let directory = tempfile::tempdir().expect("directory");
    let path = program(directory.path(), script);
    run(&helper(&path, format)).map_err(|error| error.to_string())
}

fn secret(of: Result<Fetched, String>) -> String {
    let secret = of.expect("a credential").credential.secret;
    String::from_utf8(secret.expose().to_vec()).expect("text")
}

#[test]
fn one_line_of_text_is_the_secret() {
    assert_eq!(secret(ran("echo hunter2", HelperFormat::Text)), "hunter2");
    assert_eq!(secret(ran("printf hunter2", HelperFormat::Text)), "hunter2");
    for (script, message) in [
        ("true", "is empty"),
        ("echo", "is empty"),
        ("echo one; echo two", "more than one line"),
        ("printf 'a\\377'", "not UTF-8"),
        ("echo hunter2; exit 3", "ended with code 3"),
        ("kill -TERM $$", "was ended by signal 15"),
    ] {
        let error = ran(script, HelperFormat::Text)
            .map(|_| ())
            .expect_err(script);
        assert!(error.contains(message), "{script}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn json_has_a_secret_and_perhaps_a_user_and_a_lease() {
    let script = r#"echo '{"secret": "hunter2", "user": "tmp_1", "lease_seconds": 60}'"#;
    let fetched = ran(script, HelperFormat::Json).expect("a credential");
    assert_eq!(fetched.credential.user.as_deref(), Some("tmp_1"));
    assert_eq!(fetched.lease.map(|it| it.lasts.as_secs()), Some(60));
    assert_eq!(
        secret(ran(r#"echo '{"secret": "x"}'"#, HelperFormat::Json)),
        "x"
    );
    for json in [
        "hunter2",
        r#"{"secret": 1, "user": "hunter2"}"#,
        r#"{"secret": "a", "usr": "hunter2"}"#,
        r#"{"secret": "hunter2\n2"}"#,
        r#"{"secret": "hunter2", "user": ""}"#,
        r#"{"secret": "hunter2", "lease_seconds": 0}"#,
        r#"{"secret": ""}"#,
    ] {
        let script = format!("printf '%s' '{json}'");
        let error = ran(&script, HelperFormat::Json)
            .map(|_| ())
            .expect_err(json);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn it_gets_its_words_and_nothing_else() {
    let script = r#"printf '%s|%s|%s|%s|%s' "$1" "$2" "$PWD" "$(env | cut -d= -f1 | sort | \
        tr '\n' ,)" "$(cat | wc -c)""#;
    assert_eq!(
        secret(ran(script, HelperFormat::Text)),
        "a b|$HOME|/|PATH,PWD,|0"
    );
    let script = "grep -E '^(CapEff|CapPrm|CapInh|NoNewPrivs)' /proc/self/status | tr -d '\\n\\t '";
    let zeros = "0".repeat(16);
    assert_eq!(
        secret(ran(script, HelperFormat::Text)),
        format!("CapInh:{zeros}CapPrm:{zeros}CapEff:{zeros}NoNewPrivs:1")
    );
}

#[test]
fn ten_megabytes_are_not_read() {
    let begun = Instant::now();
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; sleep 60";
    let error = ran(script, HelperFormat::Text)
        .map(|_| ())
        .expect_err("too much");
    assert!(error.contains("more than 64 KiB"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Of what it says beside, only the beginning counts.
    let script = "head -c 10000000 /dev/zero | tr '\\0' x >&2; echo hunter2";
    assert_eq!(secret(ran(script, HelperFormat::Text)), "hunter2");
}

#[test]
fn what_it_says_is_shown_in_part_and_never_the_secret() {
    let script = "echo 'no such item' >&2; echo second line >&2; exit 1";
    let error = ran(script, HelperFormat::Text)
        .map(|_| ())
        .expect_err("code 1");
    assert!(error.contains("code 1: no such item"), "{error}");
    assert!(!error.contains("second"), "{error}");
    let script = "echo hunter2; echo 'got hunter2, and then?' >&2; exit 1";
    let error = ran(script, HelperFormat::Text)
        .map(|_| ())
        .expect_err("code 1");
    assert!(!error.contains("hunter2"), "{error}");
    let script = "head -c 3000 /dev/zero | tr '\\0' x >&2; exit 1";
    let error = ran(script, HelperFormat::Text)
        .map(|_| ())
        .expect_err("code 1");
    assert!(error.len() < 400, "{error}");
}

/// Whether a process has this word in its command line.
fn runs(word: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|byte| *byte == 0)
                .any(|one| one == word.as_bytes())
        })
}

#[test]
fn too_late_is_ended_with_its_children() {
    let directory = tempfile::tempdir().expect("directory");
    // Numbers that nothing else sleeps for.
    let path = program(directory.path(), "sleep 86311 & sleep 86312");
    let mut helper = helper(&path, HelperFormat::Text);
    helper.timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let error = run(&helper).map(|_| ()).expect_err("too late").to_string();
    assert!(error.contains("did not end within 300ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Killed, and away as soon as somebody has reaped them.
    let gone = Instant::now() + Duration::from_secs(5);
    while (runs("86311") || runs("86312")) && Instant::now() < gone {
        std::thread::yield_now();
    }
    assert!(!runs("86311") && !runs("86312"));
}

#[test]
fn a_child_that_stays_behind_keeps_nobody_waiting() {
    let begun = Instant::now();
    let script = "sleep 86313 & echo hunter2";
    assert_eq!(secret(ran(script, HelperFormat::Text)), "hunter2");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_program_that_others_may_change_is_not_run() {
    let directory = tempfile::tempdir().expect("directory");
    let path = program(directory.path(), "echo hunter2");
    for mode in [0o720, 0o702, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        let error = run(&helper(&path, HelperFormat::Text)).map(|_| ());
        let error = error.expect_err("loose").to_string();
        assert!(error.contains(&format!("{mode:04o}")), "{error}");
    }
    let missing = helper(&directory.path().join("none"), HelperFormat::Text);
    let error = run(&missing).map(|_| ()).expect_err("missing").to_string();
    assert!(error.contains("cannot run"), "{error}");
}
