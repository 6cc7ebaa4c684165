use super::*;
use crate::types::SessionId;

#[derive(serde::Serialize)]
struct Body {
    n: u32,
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

#[test]
fn a_late_record_comes_before_the_next_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&path, false).expect("open");
    let context = Context::default();
    log.append_later(&Record::new(Event::Outcome, &context, &Body { n: 1 }));
    assert_eq!(lines(&path).len(), 0);
    log.append(&Record::new(Event::Decision, &context, &Body { n: 2 }))
        .expect("append");
    let numbers: Vec<_> = lines(&path).iter().map(|line| line["n"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2)]);
}

#[test]
fn context_and_body_are_one_object() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&path, false).expect("open");
    let context = Context::session(&SessionContext {
        session: &SessionId::random(),
        principal: "a\"b",
        chain: &[],
        cgroup: std::path::Path::new("/portcullis/s-1"),
        cgroup_id: crate::types::CgroupId(7),
    });
    log.append(&Record::new(Event::SessionStart, &context, &()))
        .expect("append");
    let line = &lines(&path)[0];
    assert_eq!(line["principal"], "a\"b");
    assert_eq!(line["cgroup_id"], 7);
    assert_eq!(line["event"], "session_start");
}

#[test]
fn a_log_that_cannot_be_written_says_so_and_keeps_whole_lines() {
    // /dev/full takes every open and refuses every write, as a full disk does.
    let log = AuditLog::open(Path::new("/dev/full"), false).expect("open");
    let record = Record::new(Event::Decision, &Context::default(), &Body { n: 1 }).event();
    assert_eq!(record, Event::Decision);
    let context = Context::default();
    let error = log.append(&Record::new(Event::Decision, &context, &Body { n: 1 }));
    assert!(matches!(
        error,
        Err(AuditError::File {
            call: "write to",
            ..
        })
    ));
}

/// Not a regular file: takes every open, refuses every write.
fn full() -> AuditLog {
    AuditLog::open(Path::new("/dev/full"), false).expect("open")
}

#[test]
fn the_journal_gets_a_copy_of_what_was_appended_to_the_file_and_not_of_what_failed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let (queue, copies) = std::sync::mpsc::sync_channel(10);
    let log = AuditLog::open_with_journal(&path, queue).expect("open");
    let context = Context::default();
    let append = |n| log.append(&Record::new(Event::Decision, &context, &Body { n }));
    append(1).expect("append");
    let works = std::mem::replace(
        &mut log.state.lock().expect("log").file,
        FileSink::open(Path::new("/dev/full")).expect("open"),
    );
    assert!(append(2).is_err());
    log.state.lock().expect("log").file = works;
    append(3).expect("append");
    let copied: Vec<u8> = copies
        .try_iter()
        .flat_map(|copy| copy.line().to_vec())
        .collect();
    assert_eq!(copied, std::fs::read(&path).expect("log"));
    assert_eq!(lines(&path).len(), 2);
}

#[test]
fn while_the_log_is_full_lost_records_are_counted_once() {
    let log = full();
    let context = Context::default();
    let statement = "x".repeat(300_000);
    let body = serde_json::json!({ "statement": statement });
    for _ in 0..5 {
        log.append_later(&Record::new(Event::Outcome, &context, &body));
    }
    let size = || log.state.lock().expect("log").late.len();
    let before = size();
    assert!(before <= LATE_LIMIT, "{before}");
    for _ in 0..3 {
        assert!(log.flush().is_err());
    }
    assert_eq!(size(), before, "each attempt left something behind");
    assert_eq!(log.state.lock().expect("log").late_dropped, 2);
    // The disk has room again.
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    log.state.lock().expect("log").file = FileSink::open(&path).expect("open");
    log.flush().expect("flush");
    log.flush().expect("flush");
    let lines = lines(&path);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[3]["event"], "records_lost");
    assert_eq!(lines[3]["records"], 2);
}

#[test]
fn a_late_record_is_not_lost_by_a_failed_append() {
    let log = full();
    let context = Context::default();
    log.append_later(&Record::new(Event::Outcome, &context, &Body { n: 1 }));
    let failed = log.append(&Record::new(Event::Decision, &context, &Body { n: 2 }));
    assert!(failed.is_err());
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    log.state.lock().expect("log").file = FileSink::open(&path).expect("open");
    log.append(&Record::new(Event::Decision, &context, &Body { n: 3 }))
        .expect("append");
    let numbers: Vec<_> = lines(&path).iter().map(|line| line["n"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(3)]);
}

/// A log of one whole line, with this behind it.
fn left_with(tail: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&path, false).expect("open");
    let context = Context::default();
    log.append(&Record::new(Event::Decision, &context, &Body { n: 1 }))
        .expect("append");
    let mut text = std::fs::read_to_string(&path).expect("log");
    text.push_str(tail);
    std::fs::write(&path, text).expect("write");
    (dir, path)
}

#[test]
fn a_line_that_a_killed_daemon_cut_is_taken_back_at_the_next_start() {
    let long = format!("{{\"time\":\"x\",\"statement\":\"{}", "y".repeat(50_000));
    for tail in ["", "{", "{\"time\":\"2026", &long] {
        let (_dir, path) = left_with(tail);
        let log = AuditLog::open(&path, false).expect("open");
        let context = Context::default();
        log.append(&Record::new(Event::Decision, &context, &Body { n: 2 }))
            .expect("append");
        assert_eq!(lines(&path).len(), 2, "{tail:.20}");
    }
}

#[test]
fn a_file_that_is_no_log_is_not_touched() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("notes");
    std::fs::write(&path, "one\ntwo").expect("write");
    assert!(AuditLog::open(&path, false).is_err());
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "one\ntwo");
}

/// A tmpfs of 64 KiB; taken away when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where we may not mount.
    fn mount() -> Option<Self> {
        use nix::mount::{MsFlags, mount};
        let dir = tempfile::tempdir().expect("tempdir");
        let (kind, options) = (Some("tmpfs"), Some("size=64k"));
        let mounted = mount(kind, dir.path(), kind, MsFlags::empty(), options);
        mounted.ok().map(|()| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_leaves_whole_lines_even_if_the_log_was_cut_by_others() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not tested: no right to mount");
        return;
    };
    let path = disk.0.path().join("audit.jsonl");
    let log = AuditLog::open(&path, false).expect("open");
    let context = Context::default();
    let body = serde_json::json!({ "statement": "x".repeat(3000) });
    let fill = || {
        let mut written = 0;
        while log
            .append(&Record::new(Event::Decision, &context, &body))
            .is_ok()
        {
            written += 1;
            assert!(written < 100, "it is never full");
        }
        written
    };
    let written = fill();
    assert!(written > 10);
    assert_eq!(lines(&path).len(), written, "the cut line is still there");
    // As `copytruncate` of logrotate does.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("open")
        .set_len(0)
        .expect("truncate");
    let written = fill();
    assert_eq!(lines(&path).len(), written);
    assert!(!std::fs::read(&path).expect("read").contains(&0), "a hole");
}

#[test]
fn a_new_log_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    drop(AuditLog::open(&path, false).expect("open"));
    let mode = std::fs::metadata(&path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
