//! The daemon holds itself down: what the kernel says of each of its threads.

use std::fs;

use crate::stage::Stage;

/// net_bind_service, net_admin, sys_ptrace, sys_admin, sys_nice.
const SERVING: u64 = 1 << 10 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 23;

fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(found, _)| *found == name);
    found.expect("a field of the status").1.trim()
}

#[test]
fn every_thread_is_held_and_there_is_no_core_dump() {
    let stage = Stage::new();
    stage.assert_works();
    let pid = stage.daemon.pid().expect("runs");
    let mut threads = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let path = entry.expect("thread").path().join("status");
        let Ok(status) = fs::read_to_string(path) else {
            continue;
        };
        threads += 1;
        let name = field(&status, "Name");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let held = u64::from_str_radix(field(&status, set), 16).expect("hexadecimal");
            assert_eq!(held & !SERVING, 0, "{set} of {name}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{name}");
        assert_eq!(field(&status, "Seccomp"), "2", "{name}");
    }
    assert!(threads > 3, "{threads}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{words:?}");
}
