//! The daemon holds itself down: what the kernel says of each of its threads, and what a
//! debugger of its own user gets.
//!
//! Seen to fail: without prctl(PR_SET_DUMPABLE), the second.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use portcullis_tests::agent::LIMIT;
use portcullis_tests::process::{self, Process};

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

/// Reads a word of each process's memory, as root that has every capability the daemon has,
/// but not `sys_ptrace` in effect: then only `dumpable` stands between the two. Looks the
/// address up before.
const DEBUGGER: &str = "import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
class Range(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
places = {}
for pid in map(int, sys.argv[1:]):
    with open(f'/proc/{pid}/maps') as maps:
        places[pid] = int(next(line for line in maps if '[stack]' in line).split()[0].split('-')[1], 16)
head = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
assert libc.capget(head, sets) == 0
assert sets[1] >> 19 & 1, 'sys_ptrace is permitted'
sets[0] &= ~(1 << 19)
assert libc.capset(head, sets) == 0
for pid, end in places.items():
    word = ctypes.create_string_buffer(8)
    ours, its = Range(ctypes.addressof(word), 8), Range(end - 16, 8)
    read = libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(its), 1, 0)
    print('read' if read == 8 else ctypes.get_errno())
";

#[test]
fn its_memory_is_closed_to_a_debugger_that_may_read_its_neighbours() {
    let stage = Stage::new();
    let daemon = stage.daemon.pid().expect("runs");
    let neighbour = Process::spawn(Command::new("sleep").arg("100"), Signal::SIGKILL);
    let neighbour = neighbour.expect("sleep");
    let mut debugger = Command::new("python3");
    debugger.args(["-c", DEBUGGER]);
    debugger.args([neighbour.pid(), daemon].map(|pid| pid.to_string()));
    let done = process::run(&mut debugger, "", LIMIT).expect("runs");
    let closed = format!("read\n{}\n", nix::errno::Errno::EPERM as i32);
    assert_eq!(done.stdout, closed, "{}", done.stderr);
}
