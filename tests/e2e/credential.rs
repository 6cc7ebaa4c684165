//! The password is nowhere that an agent, a reader of logs or an auditor could find it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::stage::Stage;

#[test]
fn the_password_is_not_in_the_agents_environment_or_answers() {
    let stage = Stage::new();
    let password = stage.server.agent_password().to_owned();
    let port = stage.server.port();
    let script = format!(
        "env; tr '\\0' '\\n' </proc/self/environ; tr '\\0' '\\n' </proc/$PPID/cmdline; ps auxeww; \
         psql -h 127.0.0.1 -p {port} -d shop -c 'SELECT 1/0' -c '\\conninfo' -c 'SELECT nothing'; \
         ls -la /proc/self/fd"
    );
    let done = stage.agent().run(&["sh", "-c", &script]).expect("runs");
    assert!(done.both().contains("division by zero"), "{}", done.both());
    assert!(!done.both().contains(&password));
}

#[test]
fn an_ordinary_user_can_not_read_it() {
    let stage = Stage::with(|options| options.for_nobody = true);
    let pid = stage.daemon.pid().expect("runs");
    let secret = stage.daemon.path("secrets/shop").display().to_string();
    let script = format!("cat {secret} /proc/{pid}/environ /proc/{pid}/mem; id -un");
    let done = stage
        .agent()
        .as_nobody()
        .run(&["sh", "-c", &script])
        .expect("runs");
    assert_eq!(done.stdout.trim(), "nobody", "{}", done.stderr);
    assert_eq!(
        done.stderr.matches("Permission denied").count(),
        3,
        "{}",
        done.stderr
    );
    let port = stage.server.port();
    let works = stage
        .agent()
        .as_nobody()
        .psql(port, "shop", "SELECT count(*) FROM orders");
    assert_eq!(works.expect("runs").stdout.trim(), "300");
}

#[test]
fn it_is_not_in_a_connected_clients_memory() {
    let stage = Stage::new();
    let mut psql = stage.open_psql();
    // A text of our own, to see that the search works.
    let answer = psql.query("SELECT 'needle-in-the-heap'").expect("answer");
    assert!(answer.contains("needle-in-the-heap"), "{answer}");
    assert!(memory_holds(psql.pid(), b"needle-in-the-heap"));
    assert!(!memory_holds(
        psql.pid(),
        stage.server.agent_password().as_bytes()
    ));
}

#[test]
fn it_is_not_in_the_record_the_log_or_the_status() {
    let stage = Stage::new();
    let password = stage.server.agent_password().to_owned();
    stage.assert_works();
    stage
        .server
        .sql("postgres", "ALTER ROLE agent_ro PASSWORD 'other'")
        .expect("alter");
    assert_ne!(stage.psql("SELECT 1").code(), 0);
    let mut status = stage.daemon.client();
    let done = status.args(["status", "--json"]).output().expect("status");
    let record = fs::read_to_string(stage.daemon.audit_path()).expect("record");
    let texts = [
        record,
        stage.daemon.log(),
        String::from_utf8_lossy(&done.stdout).into_owned(),
    ];
    for text in &texts {
        assert!(!text.is_empty());
        assert!(!text.contains(&password));
    }
}

/// Searches the writable memory of a process.
fn memory_holds(pid: u32, needle: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("mem");
    maps.lines()
        .filter(|line| line.contains(" rw"))
        .any(|line| {
            let (start, rest) = line.split_once('-').expect("range");
            let end = rest.split(' ').next().expect("end");
            let parse = |text: &str| u64::from_str_radix(text, 16).expect("address");
            let (start, end) = (parse(start), parse(end));
            let mut bytes = vec![0_u8; usize::try_from(end - start).expect("size")];
            let Ok(length) = memory.read_at(&mut bytes, start) else {
                return false;
            };
            bytes[..length]
                .windows(needle.len())
                .any(|window| window == needle)
        })
}
