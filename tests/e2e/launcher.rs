//! What `portcullis run` takes from an agent, tried from inside, as root and as nobody.
//!
//! Each way is also tried outside, where it must be open: a way that this host does not
//! have at all would prove nothing.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use portcullis_tests::agent::Agent;
use portcullis_tests::audit;
use portcullis_tests::daemon::Daemon;
use portcullis_tests::paths::fixture;
use portcullis_tests::process::{self, Finished, Process};
use portcullis_tests::wait;

use crate::stage::{Stage, binaries};

const LIMIT: Duration = Duration::from_secs(30);
const PYTHON: &str = "/usr/bin/python3";
/// What tells an agent that a way is closed.
const CLOSED: [&str; 8] = [
    "EPERM", "EACCES", "ENOSYS", "EROFS", "ENOENT", "SIGSYS", "SIGSEGV", "ENODATA",
];

/// A daemon without any server behind it.
fn daemon(policy: &str) -> Daemon {
    let mut options = portcullis_tests::daemon::Options::new(policy, "secret");
    options.for_nobody = true;
    Daemon::start(&binaries(), &options).expect("the daemon starts")
}

const POLICY: &str = "version: 1
roles: {analyst: {}}
services:
  shop: {proto: postgres, at: ['127.0.0.1:9'], tls: disable, user: u, credential: 'file:/etc/portcullis/secrets/shop'}
rules:
  - {id: r, role: analyst, allow: [sql.select], on: [shop]}
";

fn with_sockets(list: &str) -> String {
    POLICY.replace(
        "analyst: {}",
        &format!("analyst: {{unix_sockets: [{list}]}}"),
    )
}

/// The fixture, where every user can read it.
struct Tries {
    dir: tempfile::TempDir,
}

impl Tries {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::copy(fixture("ways_out.py"), dir.path().join("ways_out.py")).expect("copy");
        Self { dir }
    }

    fn words(&self, tries: &[String]) -> Vec<String> {
        let script = self.dir.path().join("ways_out.py").display().to_string();
        let words = [PYTHON.to_owned(), script];
        words.into_iter().chain(tries.iter().cloned()).collect()
    }

    fn inside(&self, agent: &Agent<'_>, tries: &[String]) -> HashMap<String, String> {
        let words = self.words(tries);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        answers(&agent.run(&words).expect("runs"))
    }

    fn outside(&self, nobody: bool, tries: &[String]) -> HashMap<String, String> {
        let words = self.words(tries);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if nobody {
            command.uid(65534).gid(65534);
        }
        answers(&process::run(&mut command, "", LIMIT).expect("runs"))
    }
}

fn answers(done: &Finished) -> HashMap<String, String> {
    assert_eq!(done.code(), 0, "{}", done.both());
    let split = |line: &str| {
        let (name, answer) = line.rsplit_once(": ").expect("name: answer");
        (name.to_owned(), answer.to_owned())
    };
    done.stdout.lines().map(split).collect()
}

#[test]
fn system_calls_round_the_gate_are_refused_and_the_others_are_not() {
    let (daemon, tries) = (daemon(POLICY), Tries::new());
    let outside = tries.outside(false, &[]);
    let root = Agent::new(&daemon, "analyst");
    for agent in [root.clone(), root.as_nobody()] {
        let inside = tries.inside(&agent, &[]);
        assert!(inside.len() > 30, "{inside:?}");
        for (name, answer) in &inside {
            let needed = ["tcp", "tcp v6", "unix", "route"];
            if needed.iter().any(|need| *name == format!("socket {need}")) {
                assert_eq!(answer, "ok", "{name}");
                continue;
            }
            let closed = match name.as_str() {
                "clone3" => "ENOSYS",
                "i386" => "SIGSYS",
                _ => "EPERM",
            };
            // Without 32-bit support in the kernel the door itself is a fault.
            let closed = if outside["i386"] == "SIGSEGV" && name == "i386" {
                "SIGSEGV"
            } else {
                closed
            };
            assert_eq!(answer, closed, "{name}");
        }
    }
    for open in [
        "socket packet",
        "socket vsock",
        "socket raw",
        "unshare net",
        "process_vm_readv",
    ] {
        assert_eq!(outside[open], "ok", "outside: {open}");
    }
    assert_eq!(outside["clone3"], "EINVAL");
}

#[test]
fn a_root_agent_has_no_capability_and_writes_nothing_of_the_system() {
    let (daemon, tries) = (daemon(POLICY), Tries::new());
    let agent = Agent::new(&daemon, "analyst");
    let status = agent
        .run(&["cat", "/proc/self/status"])
        .expect("runs")
        .stdout;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000")),
            "{set}: {status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"));

    let left = daemon.leftovers();
    let mount = portcullis_tests::leftovers::cgroup2_mount().expect("cgroup2");
    let procs = left.cgroup.expect("cgroup").join("cgroup.procs");
    let mine = tries.dir.path().join("mine").display().to_string();
    fs::write(&mine, "#!/bin/sh\n").expect("file");
    let write = |path: &Path| format!("write:{}", path.display());
    let ways = [
        write(&mount.join("cgroup.procs")),
        write(&procs),
        write(Path::new("/etc/passwd")),
        write(Path::new("/etc/crontab")),
        write(Path::new("/proc/sys/kernel/core_pattern")),
        write(Path::new("/usr/bin/env")),
        format!("read:{}", daemon.path("secrets/shop").display()),
        format!("read:{}", daemon.audit_path().display()),
        format!("read:{}", daemon.policy_path().display()),
        write(&daemon.policy_path()),
        write(&daemon.path("run/lock")),
        format!("list:{}", daemon.path("bpf").display()),
        format!("unix:{}", daemon.path("run/control.sock").display()),
        format!("setuid:{mine}"),
    ];
    let outside = tries.outside(false, &ways);
    let inside = tries.inside(&agent, &ways);
    for way in &ways {
        if outside[way] == "ENOENT" {
            continue;
        }
        assert_eq!(outside[way], "ok", "outside: {way}");
        assert!(
            CLOSED.contains(&inside[way].as_str()),
            "{way}: {}",
            inside[way]
        );
    }
    assert_eq!(inside[&write(Path::new("/etc/passwd"))], "EROFS");
}

#[test]
fn a_root_agent_writes_where_it_works() {
    let (daemon, tries) = (daemon(POLICY), Tries::new());
    let work = tempfile::tempdir_in("/opt").expect("dir");
    let other = tempfile::tempdir_in("/opt").expect("dir");
    let create = |dir: &Path| format!("create:{}/new", dir.display());
    let ways = [
        create(work.path()),
        create(other.path()),
        create(Path::new("/tmp/..")),
        create(tries.dir.path()),
    ];
    let words = tries.words(&ways);
    let run = |writable: &[&str]| {
        let mut command = daemon.client();
        command
            .args(["run", "--as", "analyst"])
            .args(writable)
            .arg("--")
            .args(&words);
        answers(&process::run(command.current_dir(work.path()), "", LIMIT).expect("runs"))
    };
    let inside = run(&[]);
    assert_eq!(inside[&ways[0]], "ok", "the working directory");
    assert_eq!(inside[&ways[1]], "EROFS", "another directory");
    assert_eq!(inside[&ways[2]], "EROFS", "the root directory");
    assert_eq!(inside[&ways[3]], "ok", "/tmp");
    let asked = other.path().display().to_string();
    assert_eq!(run(&["--writable", &asked])[&ways[1]], "ok");

    let mut command = daemon.client();
    command.args(["run", "--as", "analyst", "--writable", "/etc", "--", "true"]);
    let done = process::run(&mut command, "", LIMIT).expect("runs");
    assert_eq!(done.code(), 125);
    assert!(done.stderr.contains("/etc"), "{}", done.stderr);
}

#[test]
fn sockets_devices_and_directories_are_no_standard_streams() {
    let daemon = daemon(POLICY);
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let tcp = TcpStream::connect(listener.local_addr().expect("address")).expect("tcp");
    let dir = tempfile::tempdir().expect("dir");
    let _helper = UnixListener::bind(dir.path().join("helper")).expect("bind");
    let named = UnixStream::connect(dir.path().join("helper")).expect("connect");
    let directory = fs::File::open("/").expect("directory");
    let (ours, pair) = UnixStream::pair().expect("pair");
    drop(ours);
    for (stream, code, word) in [
        (OwnedFd::from(tcp), 125, "family 2"),
        (named.into(), 125, "helper"),
        (directory.into(), 125, "directory"),
        (pair.into(), 0, ""),
    ] {
        let mut command = Agent::new(&daemon, "analyst").command(&["true"]);
        command
            .stdin(Stdio::from(stream))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = command
            .spawn()
            .expect("spawn")
            .wait_with_output()
            .expect("wait");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn no_other_descriptor_is_inherited() {
    let daemon = daemon(POLICY);
    let mut command = Command::new("sh");
    let script = "exec 7</etc/hostname 9</dev/null; exec \"$@\"";
    let run = daemon.client();
    command
        .args(["-c", script, "sh"])
        .arg(run.get_program())
        .args(run.get_args());
    command.args(["run", "--as", "analyst", "--", "ls", "/proc/self/fd"]);
    let done = process::run(&mut command, "", LIMIT).expect("runs");
    // 3 is the directory that ls reads.
    assert_eq!(done.stdout, "0\n1\n2\n3\n", "{}", done.stderr);
}

#[test]
fn processes_outside_are_out_of_reach_of_their_own_users_agent() {
    let (daemon, tries) = (daemon(POLICY), Tries::new());
    let mut command = Command::new("sleep");
    let victim = Process::spawn(command.arg("100").uid(65534).gid(65534), Signal::SIGKILL);
    let pid = victim.as_ref().expect("sleep").pid();
    let ways = [format!("mem:{pid}"), format!("signal:{pid}")];
    let outside = tries.outside(true, &ways);
    let inside = tries.inside(&Agent::new(&daemon, "analyst").as_nobody(), &ways);
    for way in &ways {
        assert_eq!(outside[way], "ok", "outside: {way}");
        assert!(
            ["EPERM", "EACCES"].contains(&inside[way].as_str()),
            "{way}: {}",
            inside[way]
        );
    }
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

#[test]
fn a_user_of_roots_choice() {
    let daemon = daemon(POLICY);
    let run = |words: &[&str]| {
        let mut command = daemon.client();
        command.args(["run", "--as", "analyst"]).args(words);
        process::run(
            command.env("SSH_AUTH_SOCK", "/x").current_dir("/"),
            "",
            LIMIT,
        )
        .expect("runs")
    };
    let script =
        "id -u; id -G; echo $HOME $USER ${SSH_AUTH_SOCK:-none}; grep Groups /proc/self/status";
    let done = run(&["--user", "nobody", "--", "sh", "-c", script]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        ["65534", "65534", "/nonexistent nobody none"],
        "{}",
        done.both()
    );
    // nogroup is the control socket's group here: root takes it from the agent.
    assert_eq!(lines[3].trim(), "Groups:", "{}", done.stdout);
    let done = run(&["--user", "no-such-user", "--", "true"]);
    assert_eq!(done.code(), 125, "{}", done.both());
    let mut command = Agent::new(&daemon, "analyst")
        .as_nobody()
        .command(&["true"]);
    let mut other = Command::new(command.get_program());
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let (before, after) = words.split_at(words.iter().position(|word| word == "--").expect("--"));
    other
        .args(before)
        .args(["--user", "daemon"])
        .args(after)
        .uid(65534)
        .gid(65534);
    let done = process::run(&mut other, "", LIMIT).expect("runs");
    assert_eq!(done.code(), 125);
    assert!(done.stderr.contains("root"), "{}", done.stderr);
    assert_eq!(
        process::run(&mut command, "", LIMIT).expect("runs").code(),
        0
    );
}

#[test]
fn a_member_of_a_helpers_group_is_refused_unless_it_says_so() {
    let daemon = daemon(POLICY);
    let disk = nix::unistd::Group::from_name("disk")
        .expect("groups")
        .expect("disk")
        .gid;
    let run = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        let groups = format!("--groups=65534,{disk}");
        command.args(["--reuid=65534", "--regid=65534", &groups, "--"]);
        let client = daemon.client();
        command.arg(client.get_program()).args(client.get_args());
        command
            .args(["run", "--as", "analyst"])
            .args(words)
            .args(["--", "true"]);
        process::run(command.current_dir("/"), "", LIMIT).expect("runs")
    };
    let done = run(&[]);
    assert_eq!(done.code(), 125, "{}", done.both());
    assert!(done.stderr.contains("group disk"), "{}", done.stderr);
    assert_eq!(run(&["--keep-groups"]).code(), 0);
}

#[test]
fn status_tells_sessions_of_the_launcher_from_others() {
    let stage = Stage::new();
    let _psql = stage.open_psql();
    // A caller that asks for a session and confines itself in nothing.
    let script = "import http.client, json, socket, sys, time
c = http.client.HTTPConnection('portcullis')
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(sys.argv[1])
c.request('POST', '/v1/sessions', json.dumps({'who': {'as': 'analyst'}}), {'Content-Type': 'application/json'})
print(c.getresponse().status, flush=True)
time.sleep(60)
";
    let mut command = Command::new(PYTHON);
    command
        .args(["-c", script])
        .arg(stage.daemon.path("run/control.sock"));
    let mut other = Process::spawn(command.stdout(Stdio::null()), Signal::SIGKILL).expect("python");
    let pid = other.pid();
    let sessions = || {
        let text = process::check(stage.daemon.client().args(["status", "--json"]), "", LIMIT)?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let sessions = status["session_layers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(other.ended()?.is_none(), "python ended");
        let launchers: Vec<_> = sessions
            .iter()
            .map(|one| one["launcher"].as_bool())
            .collect();
        assert_eq!(status["degraded"][0]["layer"], "lsm");
        Ok((launchers == [Some(true), Some(false)]).then_some(()))
    };
    wait::until("one session of each kind", LIMIT, sessions).expect("status");
    let text = process::check(stage.daemon.client().arg("status"), "", LIMIT).expect("status");
    assert!(
        text.contains("launcher: yes") && text.contains("launcher: NO"),
        "{text}"
    );
    assert!(text.contains("degraded   without lsm"), "{text}");
    assert!(pid > 0);
}

#[test]
fn ordinary_programs_work() {
    let daemon = daemon(POLICY);
    let work = tempfile::tempdir_in("/opt").expect("dir");
    let run = |script: &str| {
        let mut command = Agent::new(&daemon, "analyst").command(&["bash", "-c", script]);
        command.current_dir(work.path()).env("HOME", work.path());
        process::run(&mut command, "", LIMIT).expect("runs")
    };
    for (script, said) in [
        (
            "python3 -uc 'import subprocess, threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join(); subprocess.run([\"echo\", \"2\"])'",
            "1\n2\n",
        ),
        (
            "git init -q . && git -c user.name=a -c user.email=a@b commit -qm x --allow-empty && git log --oneline | wc -l",
            "1\n",
        ),
        ("mkdir a b && touch a/f && mv a/f b/f && ls b", "f\n"),
        ("set -m; sleep 30 & kill %1; wait %1; echo $?", "143\n"),
        (
            "trap 'echo got' USR1; kill -USR1 $$; mktemp -p /tmp >/dev/null && echo made",
            "got\nmade\n",
        ),
    ] {
        let done = run(script);
        assert_eq!(
            (done.stdout.as_str(), done.code()),
            (said, 0),
            "{script}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_terminal_has_job_control() {
    let daemon = daemon(POLICY);
    let client = daemon.client();
    let mut words: Vec<String> = vec![client.get_program().to_string_lossy().into_owned()];
    words.extend(
        client
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let inner = "tty >/dev/tty; sleep 30 & jobs; kill %1; echo over";
    let line = format!("{} run --as analyst -- bash -ic '{inner}'", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    let done = process::run(&mut script, "", LIMIT).expect("runs");
    assert!(done.stdout.contains("/dev/console"), "{}", done.both());
    assert!(
        done.stdout.contains("Running") && done.stdout.contains("over"),
        "{}",
        done.both()
    );
    assert!(!done.stdout.contains("no job control"), "{}", done.both());
    std::io::stderr().flush().expect("flush");
}

#[test]
fn who_asks_must_still_live() {
    let daemon = daemon(POLICY);
    // The child connects and ends; its pid could be anybody's by the time the parent asks.
    let script = "import os, socket, sys
s = socket.socket(socket.AF_UNIX)
if os.fork() == 0:
    s.connect(sys.argv[1])
    os._exit(0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
s.sendall(b'GET /v1/sessions HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
print(s.makefile().read())
";
    let mut command = Command::new(PYTHON);
    command
        .args(["-c", script])
        .arg(daemon.path("run/control.sock"));
    let done = process::run(&mut command, "", LIMIT).expect("runs");
    assert!(
        done.stdout.contains("403") && done.stdout.contains("has ended"),
        "{}",
        done.both()
    );
}
