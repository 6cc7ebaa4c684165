//! What `portcullis run` takes from an agent, tried from inside, as root and as nobody.
//!
//! Each way is also tried outside, where it must be open: a way that this host does not
//! have at all would prove nothing.

mod asking;
mod programs;
mod sockets;
mod tries;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use portcullis_tests::agent::Agent;
use portcullis_tests::daemon::Daemon;
use portcullis_tests::process::{self, Process};

use crate::stage::binaries;
use tries::{Tries, answers};

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
