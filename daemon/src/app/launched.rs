//! Whether the processes of a session are confined as `portcullis run` leaves them, asked
//! from the kernel: a caller's word for it would prove nothing.

use std::fs;
use std::path::Path;

/// True when each process in the cgroup and below it has a seccomp filter, can gain no
/// rights and has no capabilities. All three are inherited and can't be taken back.
pub(super) fn is_confined(cgroup: &Path) -> bool {
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let own = processes
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .all(is_confined_process);
    own && children(cgroup).iter().all(|child| is_confined(child))
}

/// The same of one process; one that has ended is no longer in the session.
pub(super) fn is_confined_process(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.map_or(true, |status| is_confined_status(&status))
}

fn children(cgroup: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// `/proc/PID/status` (proc_pid_status(5)). A process that is ending has given its own up.
fn is_confined_status(status: &str) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let ends = field("State").is_some_and(|state| state.starts_with(['Z', 'X']));
    let none = |name| field(name).is_some_and(|set| set.chars().all(|digit| digit == '0'));
    ends || field("Seccomp") == Some("2")
        && field("NoNewPrivs") == Some("1")
        && none("CapPrm")
        && none("CapEff")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Name:\tsh\nState:\tS (sleeping)\nCapPrm:\t0000000000000000\n\
                        CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn all_three_are_needed() {
        assert!(is_confined_status(GOOD));
        for (good, bad) in [
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000200000"),
            ("CapEff:\t0000000000000000\n", ""),
        ] {
            assert!(!is_confined_status(&GOOD.replace(good, bad)), "{bad}");
        }
    }

    #[test]
    fn this_test_is_no_agent() {
        let own = fs::read_to_string("/proc/self/status").expect("status");
        assert!(!is_confined_status(&own));
    }
}
