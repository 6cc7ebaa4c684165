use super::*;

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
        session: "s-1",
        principal: "a\"b",
        cgroup: "/portcullis/s-1",
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
