//! Sessions inside sessions: never wider, never longer.

use portcullis_tests::agent::Agent;
use portcullis_tests::audit::{is, text};
use portcullis_tests::wait;
use serde_json::Value;

use super::{
    ATTRIBUTE, LIMIT, cgroup_of, inner_shell, inside, nested, portcullis, psql, session_of,
    sessions, with_planner,
};
use crate::stage::Stage;

#[test]
fn a_session_inside_a_session_has_the_roles_it_was_given_and_no_others() {
    let stage = with_planner();
    let products = psql(&stage, "select count(*) from products");
    let orders = psql(&stage, "select count(*) from orders");
    let (said, code) = inside(&stage, "--role reader", &products);
    assert_eq!((said.as_str(), code), ("50\n", 0));
    let (said, code) = inside(&stage, "--role reader", &orders);
    assert!(
        code != 0 && said.contains("no rule of role reader"),
        "{said}"
    );
    assert_eq!(
        inside(&stage, "--role analyst", &orders),
        ("300\n".into(), 0)
    );
    let decision = stage.daemon.decision("from orders").expect("record");
    let chain = decision["chain"].as_array().expect("a chain");
    assert_eq!(chain.len(), 1, "{decision}");
    assert_eq!(text(&decision, "principal"), "planner");
}

#[test]
fn a_session_inside_a_session_is_never_wider_or_longer() {
    let stage = with_planner();
    let (said, code) = inside(&stage, "--role nobody-has-this", "true");
    assert!(code == 125 && said.contains("never wider"), "{said}");
    // The narrower one asks for what only the outer one has.
    let again = nested(&stage, "--role analyst", "true");
    let (said, code) = inside(&stage, "--role reader", &again);
    assert!(code == 125 && said.contains("never wider"), "{said}");
    // By name, from inside: the control socket is not for agents.
    let (said, code) = inside(&stage, "--as analyst", "true");
    assert_eq!(code, 125, "{said}");
    let mut shell = Agent::new(&stage.daemon, "planner")
        .with(&["--for", "1h"])
        .shell()
        .expect("a shell");
    let (said, code) = shell
        .run(
            &nested(&stage, "--role reader --for 9h", "sleep 0.1"),
            LIMIT,
        )
        .expect("answers");
    assert_eq!(code, 0, "{said}");
    let starts: Vec<Value> = stage.daemon.audit().expect("record");
    let mut ends = starts.iter().rev().filter(|line| is(line, "session_start"));
    let (inner, outer) = (ends.next().expect("inner"), ends.next().expect("outer"));
    assert_eq!(inner["expires"], outer["expires"], "{inner} {outer}");
    assert!(inner["expires"].is_string() && inner["chain"].is_array());
}

#[test]
fn sessions_nest_four_deep_and_no_deeper() {
    let stage = with_planner();
    let mut line = "echo bottom".to_owned();
    for _ in 0..4 {
        line = nested(&stage, "--role reader", &line);
    }
    let (said, code) = inside(&stage, "--role reader", &line);
    assert!(code == 125 && said.contains("deep"), "{said}");
    let mut line = "echo bottom".to_owned();
    for _ in 0..3 {
        line = nested(&stage, "--role reader", &line);
    }
    assert_eq!(
        inside(&stage, "--role reader", &line),
        ("bottom\n".into(), 0)
    );
}

#[test]
fn an_ended_inner_session_does_not_fall_back_to_the_outer_one() {
    let stage = with_planner();
    let query = psql(&stage, "select count(*) from orders");
    let mut outer = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    let line = nested(
        &stage,
        "--role analyst --for 1s",
        "sh -c 'sleep 3; exec 2>&1; ",
    );
    let (said, code) = outer
        .run(&format!("{line} {}'", query.replace('\'', "\"")), LIMIT)
        .expect("answers");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
    assert_eq!(outer.run(&query, LIMIT).expect("psql"), ("300\n".into(), 0));
}

#[test]
fn what_is_inside_ends_with_the_outer_session() {
    let stage = with_planner();
    let mut shell = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    let outer = session_of(&stage, &mut shell);
    let line = nested(&stage, "--role reader", "sleep 60");
    let (_, code) = shell
        .run(&format!("{line} </dev/null >/dev/null 2>&1 &"), LIMIT)
        .expect("starts");
    assert_eq!(code, 0);
    wait::until("two sessions", LIMIT, || {
        Ok((sessions(&stage).len() == 2).then_some(()))
    })
    .expect("two");
    assert_eq!(portcullis(&stage, &["revoke", &outer]).code(), 0);
    let ends: Vec<Value> = sessions(&stage)
        .iter()
        .map(|one| one["ended"].clone())
        .collect();
    assert_eq!(ends, ["revoked", "outer_ended"]);
}

#[test]
fn an_inner_session_cannot_reach_into_the_outer_ones_processes_or_cgroup() {
    let stage = with_planner();
    let mut outer = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    outer.run("true", LIMIT).expect("runs");
    let pid = outer.pid();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let path = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("v2");
    let root = portcullis_tests::leftovers::cgroup2_mount().expect("cgroup2");
    for (attempt, fails) in [
        (format!("head -c 1 /proc/{pid}/mem"), true),
        (format!("cat /proc/{pid}/environ"), true),
        (format!("ls -l /proc/{pid}/fd/0"), true),
        (
            format!("sh -c 'echo $$ > {}{path}/cgroup.procs'", root.display()),
            true,
        ),
        // The attempts can succeed: on a process of its own.
        ("sh -c 'cat /proc/$$/environ > /dev/null'".to_owned(), false),
    ] {
        let line = nested(&stage, "--role reader", &attempt);
        let (said, code) = outer.run(&line, LIMIT).expect("answers");
        assert_eq!(code != 0, fails, "{attempt}: {said}");
    }
}

#[test]
fn an_inner_session_whose_identity_is_lost_gets_nothing_after_a_restart() {
    for lost in [Some(&b"{}"[..]), None] {
        let mut stage = with_planner();
        let mut inner = inner_shell(&stage, "reader");
        let products = psql(&stage, "select count(*) from products");
        assert_eq!(inner.run(&products, LIMIT).expect("psql").0, "50\n");
        let id = session_of(&stage, &mut inner);
        let cgroup = cgroup_of(&stage, &id);
        stage.daemon.kill9().expect("killed");
        match lost {
            Some(value) => xattr::set(&cgroup, ATTRIBUTE, value).expect("setxattr"),
            None => xattr::remove(&cgroup, ATTRIBUTE).expect("removexattr"),
        }
        stage.daemon.launch().expect("starts again");
        let orders = psql(&stage, "select count(*) from orders");
        for query in [&products, &orders] {
            let (said, code) = inner.run(query, LIMIT).expect("psql");
            assert!(code != 0 && said.contains("Connection refused"), "{said}");
        }
    }
}

#[test]
fn a_start_that_fails_half_way_leaves_nothing() {
    let stage = Stage::with(|options| {
        // More than the kernel's list of all sessions holds.
        let names: String = (0..17_000).map(|n| format!("/run/h/{n},")).collect();
        let role = format!("analyst: {{unix_sockets: [{names}]}}");
        options.policy = options.policy.replace("analyst: {}", &role);
    });
    let done = stage.agent().run(&["true"]).expect("runs");
    assert_eq!(done.code(), 125, "{}", done.both());
    let enforced = stage.daemon.leftovers().cgroup.expect("cgroup2");
    let left = || {
        let entries = std::fs::read_dir(&enforced)?.flatten();
        let cgroups = entries.filter(|entry| entry.path().is_dir()).count();
        Ok((cgroups == 0 && sessions(&stage).is_empty()).then_some(()))
    };
    wait::until("its cgroup to go", LIMIT, left).expect("gone");
}
