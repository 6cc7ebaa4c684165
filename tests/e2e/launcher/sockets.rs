//! Unix sockets outside, and the control socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use portcullis_tests::agent::Agent;
use portcullis_tests::audit;
use portcullis_tests::daemon::Daemon;
use portcullis_tests::wait;

use super::tries::Tries;
use super::{LIMIT, POLICY, daemon};
use crate::stage::binaries;

fn with_sockets(list: &str) -> String {
    POLICY.replace(
        "analyst: {}",
        &format!("analyst: {{unix_sockets: [{list}]}}"),
    )
}

/// Listening sockets of a helper outside: one in the file system, one abstract.
struct Helper {
    _path: UnixListener,
    _name: UnixListener,
    path: PathBuf,
    name: String,
    _dir: tempfile::TempDir,
}

impl Helper {
    fn new() -> Self {
        use std::os::linux::net::SocketAddrExt;
        let dir = tempfile::tempdir_in("/opt").expect("dir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let path = dir.path().join("helper.sock");
        let listener = UnixListener::bind(&path).expect("bind");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
        let name = format!(
            "portcullis-e2e-{}",
            dir.path().file_name().expect("name").display()
        );
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("name");
        Self {
            _path: listener,
            _name: UnixListener::bind_addr(&address).expect("bind"),
            path,
            name: format!("@{name}"),
            _dir: dir,
        }
    }

    fn ways(&self) -> [String; 2] {
        [
            format!("unix:{}", self.path.display()),
            format!("unix:{}", self.name),
        ]
    }
}

#[test]
fn unix_sockets_outside_are_refused_and_recorded_unless_the_policy_lists_them() {
    let (helper, tries) = (Helper::new(), Tries::new());
    let ways = helper.ways();
    let listed = with_sockets(&format!("'{}', '{}'", helper.path.display(), helper.name));
    let outside = tries.outside(true, &ways);
    for (policy, expected) in [(POLICY, "EACCES"), (&listed, "ok")] {
        let daemon = daemon(policy);
        let root = Agent::new(&daemon, "analyst");
        for agent in [root.clone(), root.as_nobody()] {
            let inside = tries.inside(&agent, &ways);
            for way in &ways {
                assert_eq!(outside[way], "ok", "outside: {way}");
                // A root agent does not see the listener at all.
                let unseen = expected != "ok" && inside[way] == "ECONNREFUSED";
                assert!(unseen || inside[way] == expected, "{way}: {}", inside[way]);
            }
        }
        if expected != "ok" {
            let refused = |line: &serde_json::Value| {
                audit::is(line, "gate_refused")
                    && audit::text(line, "layer") == "unix_connect"
                    && audit::text(line, "unix") == helper.path.display().to_string()
            };
            let line = daemon
                .audit_line("the refused socket", refused)
                .expect("record");
            assert_eq!(audit::text(&line, "principal"), "analyst");
            assert_eq!(audit::text(&line, "family"), "unix");
        }
    }
}

#[test]
fn a_reload_of_the_policys_sockets_reaches_a_live_session() {
    let (helper, tries) = (Helper::new(), Tries::new());
    let way = &helper.ways()[0];
    let daemon = daemon(POLICY);
    let mut shell = Agent::new(&daemon, "analyst")
        .as_nobody()
        .shell()
        .expect("shell");
    let line = tries.words(std::slice::from_ref(way)).join(" ");
    let mut becomes = |expected: &str| {
        let expected = format!("{way}: {expected}\n");
        wait::until(&expected, LIMIT, || {
            let (said, _) = shell.run(&line, LIMIT)?;
            Ok((said == expected).then_some(()))
        })
        .expect("reaches the session");
    };
    becomes("EACCES");
    daemon
        .write_policy(&with_sockets(&format!("'{}'", helper.path.display())))
        .expect("policy");
    becomes("ok");
    daemon.write_policy(POLICY).expect("policy");
    becomes("EACCES");
}

#[test]
fn the_control_socket_answers_no_agent_even_where_the_policy_lists_it() {
    let mut options = portcullis_tests::daemon::Options::new(POLICY, "secret");
    options.for_nobody = true;
    let daemon = Daemon::start(&binaries(), &options).expect("starts");
    let socket = daemon.path("run/control.sock");
    daemon
        .write_policy(&with_sockets(&format!("'{}'", socket.display())))
        .expect("policy");
    let client = daemon.path("portcullis").display().to_string();
    let socket = socket.display().to_string();
    let agent = Agent::new(&daemon, "analyst").as_nobody();
    for words in [
        &[client.as_str(), "--socket", &socket, "status"][..],
        &[&client, "--socket", &socket, "sessions"],
        &[
            &client, "--socket", &socket, "run", "--as", "analyst", "--", "true",
        ],
    ] {
        let refused = || {
            let done = agent.run(words)?;
            assert_ne!(done.code(), 0, "{}", done.both());
            Ok(done
                .stderr
                .contains("inside an agent session")
                .then_some(()))
        };
        wait::until("the daemon itself to refuse", LIMIT, refused).expect("refused by the daemon");
    }
}
