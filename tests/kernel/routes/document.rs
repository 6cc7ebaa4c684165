//! The tables of docs/gate.md are made from the tests, so that they can't drift apart.
//!
//! `PORTCULLIS_WRITE_DOCS=1 cargo test -p portcullis-tests --test kernel gate_md` writes
//! them; without the variable they are compared.

use std::fmt::Write;

use portcullis_tests::paths::workspace;

use super::elsewhere::ELSEWHERE;
use super::{MAY_BE_ABSENT, ROUTES, User};

fn routes() -> String {
    let mut text = String::from(
        "| route | closed by, each alone | user without the gate | test `routes::each::` |\n\
         |---|---|---|---|\n",
    );
    for route in ROUTES {
        let user = match route.user {
            User::Open => "open".to_owned(),
            User::Refused(errno) => format!("`{errno}`"),
        };
        let absent = if MAY_BE_ABSENT.contains(&route.name) {
            ", or absent"
        } else {
            ""
        };
        let (what, by, name) = (route.what, route.closed_by.join(", "), route.name);
        writeln!(text, "| {what} | {by} | {user}{absent} | `{name}` |").expect("a String");
    }
    text
}

fn elsewhere() -> String {
    let mut text =
        String::from("| route | cgroup hooks | launcher | BPF LSM |\n|---|---|---|---|\n");
    for entry in ELSEWHERE {
        let what = entry.what;
        writeln!(
            text,
            "| {what} | do not see it | seccomp: families | `socket_create` |"
        )
        .expect("a String");
    }
    text
}

#[test]
fn gate_md_lists_the_routes_that_are_tested() {
    let path = workspace().join("docs/gate.md");
    let old = std::fs::read_to_string(&path).expect("docs/gate.md");
    let new = put(&put(&old, "routes", &routes()), "elsewhere", &elsewhere());
    if std::env::var_os("PORTCULLIS_WRITE_DOCS").is_some() {
        std::fs::write(&path, new).expect("write docs/gate.md");
        return;
    }
    assert!(
        old == new,
        "docs/gate.md has drifted from the tests: run this one with PORTCULLIS_WRITE_DOCS=1"
    );
}

/// The text with what stands between the two markers replaced.
fn put(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}:begin -->"),
        format!("<!-- {name}:end -->"),
    );
    let (before, rest) = text.split_once(&begin).expect("the first marker");
    let (_, after) = rest.split_once(&end).expect("the second marker");
    format!("{before}{begin}\n{table}{end}{after}")
}
