//! Whether every thread of the daemon is held: credentials and filters are a thread's own.

use std::fs;
use std::path::Path;

use std::time::{Duration, Instant};

use super::{HoldError, call};

/// A thread that was just started may not have run yet, and gives up what it has then.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Looks at `/proc/self/task` until every thread is held.
pub(super) fn check(capabilities: u64) -> Result<(), HoldError> {
    let limit = Instant::now() + PATIENCE;
    loop {
        match all(capabilities) {
            Err(HoldError::Thread { .. }) if Instant::now() < limit => std::thread::sleep(LOOK),
            result => return result,
        }
    }
}

fn all(capabilities: u64) -> Result<(), HoldError> {
    let failed = || call("read /proc/self/task");
    for entry in fs::read_dir("/proc/self/task").map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        // One that has ended meanwhile does nothing any more.
        if let Ok(status) = fs::read_to_string(path.join("status")) {
            one(&path, &status, capabilities)?;
        }
    }
    Ok(())
}

fn one(path: &Path, status: &str, capabilities: u64) -> Result<(), HoldError> {
    let thread = || field(status, "Name").unwrap_or("?").to_owned();
    let wrong = |what: String| HoldError::Thread {
        thread: format!("{} ({})", thread(), path.display()),
        what,
    };
    for set in ["CapEff", "CapPrm"] {
        let held = field(status, set).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        match held {
            Some(held) if held & !capabilities == 0 => {}
            Some(held) => {
                let more = held & !capabilities;
                return Err(wrong(format!("capabilities {more:#x} in its {set}")));
            }
            None => return Err(wrong(format!("no {set}"))),
        }
    }
    if field(status, "NoNewPrivs") != Some("1") {
        return Err(wrong("no no_new_privs".into()));
    }
    if field(status, "Seccomp") != Some("2") {
        return Err(wrong("no seccomp filter".into()));
    }
    Ok(())
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: &str = "Name:\ttokio\nCapPrm:\t0000000000200000\nCapEff:\t0000000000200000\n\
                        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn each_thing_that_is_not_held_is_told() {
        let look = |text: &str| one(Path::new("/x"), text, 1 << 21).map_err(|e| e.to_string());
        assert_eq!(look(HELD), Ok(()));
        for (from, to, told) in [
            (
                "CapEff:\t0000000000200000",
                "CapEff:\t0000000000200001",
                "0x1 in its CapEff",
            ),
            (
                "CapPrm:\t0000000000200000",
                "CapPrm:\t0000008000200000",
                "0x8000000000 in its CapPrm",
            ),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no no_new_privs"),
            ("Seccomp:\t2", "Seccomp:\t0", "no seccomp filter"),
            ("CapEff", "Cap", "no CapEff"),
        ] {
            let error = look(&HELD.replace(from, to)).expect_err(told);
            assert!(error.contains(told) && error.contains("tokio"), "{error}");
        }
    }
}
