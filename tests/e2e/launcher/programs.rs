//! What an agent's ordinary programs need still works.

use std::io::Write;
use std::process::Command;

use portcullis_tests::agent::Agent;
use portcullis_tests::process;

use super::{LIMIT, POLICY, daemon};

#[test]
fn ordinary_programs_work() {
    let daemon = daemon(POLICY);
    let work = tempfile::tempdir_in("/opt").expect("dir");
    let run = |script: &str| {
        let mut command = Agent::new(&daemon, "analyst").command(&["bash", "-c", script]);
        command.current_dir(work.path()).env("HOME", work.path());
        process::run(&mut command, "", LIMIT).expect("runs")
    };
    for (script, said) in [
        (
            "python3 -uc 'import subprocess, threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join(); subprocess.run([\"echo\", \"2\"])'",
            "1\n2\n",
        ),
        (
            "git init -q . && git -c user.name=a -c user.email=a@b commit -qm x --allow-empty && git log --oneline | wc -l",
            "1\n",
        ),
        ("mkdir a b && touch a/f && mv a/f b/f && ls b", "f\n"),
        ("set -m; sleep 30 & kill %1; wait %1; echo $?", "143\n"),
        (
            "trap 'echo got' USR1; kill -USR1 $$; mktemp -p /tmp >/dev/null && echo made",
            "got\nmade\n",
        ),
    ] {
        let done = run(script);
        assert_eq!(
            (done.stdout.as_str(), done.code()),
            (said, 0),
            "{script}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_terminal_has_job_control() {
    let daemon = daemon(POLICY);
    let client = daemon.client();
    let mut words: Vec<String> = vec![client.get_program().to_string_lossy().into_owned()];
    words.extend(
        client
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let inner = "tty >/dev/tty; sleep 30 & jobs; kill %1; echo over";
    let line = format!("{} run --as analyst -- bash -ic '{inner}'", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    let done = process::run(&mut script, "", LIMIT).expect("runs");
    assert!(done.stdout.contains("/dev/console"), "{}", done.both());
    assert!(
        done.stdout.contains("Running") && done.stdout.contains("over"),
        "{}",
        done.both()
    );
    assert!(!done.stdout.contains("no job control"), "{}", done.both());
    std::io::stderr().flush().expect("flush");
}
