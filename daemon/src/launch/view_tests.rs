//! Plans of what a root-started agent sees.

use super::*;

const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 27 0:30 / /mnt/my\\040pins rw - bpf bpf rw
";

fn paths(texts: &[&str]) -> Vec<PathBuf> {
    texts.iter().map(PathBuf::from).collect()
}

fn view(writable: &[&str], hide: &[&str], sockets: &[&str]) -> View {
    let wishes = Wishes {
        writable: paths(writable),
        hide: paths(hide),
        sockets: paths(sockets),
    };
    let bound = paths(&["/tmp/tmux-0/default", "/run/docker.sock", "/opt/x/s.sock"]);
    plan(MOUNTS, &bound, &wishes)
}

#[test]
fn the_system_is_never_writable() {
    for path in [
        "/",
        "/etc",
        "/etc/cron.d",
        "/usr/local/bin",
        "/root",
        "/home",
        "/var",
        "/var/spool/cron",
        "/proc/sys",
        "/sys/fs/cgroup/x",
        "/dev/shm",
        "/run/user/0",
        "relative",
    ] {
        assert!(!may_write(Path::new(path)), "{path}");
    }
    for path in [
        "/opt/project",
        "/home/me",
        "/srv/app",
        "/app",
        "/var/www",
        "/binary",
    ] {
        assert!(may_write(Path::new(path)), "{path}");
    }
}

#[test]
fn what_lies_in_a_writable_directory_is_not_mounted_twice() {
    let view = view(
        &["/srv/app", "/tmp/work", "/root", "/srv/app/sub"],
        &[],
        &[],
    );
    assert_eq!(view.writable, paths(&["/srv/app", "/tmp", "/var/tmp"]));
}

#[test]
fn controls_and_sockets_are_hidden_once() {
    let view = view(&[], &["/tmp/daemon/run", "/run/portcullis"], &[]);
    for path in [
        "/etc/portcullis",
        "/sys/fs/cgroup",
        "/mnt/my pins",
        "/tmp/daemon/run",
        "/tmp/tmux-0/default",
        "/opt/x/s.sock",
    ] {
        assert!(view.hidden.contains(&PathBuf::from(path)), "{path}");
    }
    let below = |path: &PathBuf| path.starts_with("/sys/fs/cgroup/unified");
    assert!(!view.hidden.iter().any(below));
    assert!(!view.hidden.iter().any(|path| path.starts_with("/run")));
}

#[test]
fn a_listed_socket_stays() {
    let view = view(&[], &[], &["/run/nscd/socket", "/opt/x/s.sock"]);
    assert!(view.run.contains(&PathBuf::from("/run/nscd/socket")));
    assert!(!view.hidden.contains(&PathBuf::from("/opt/x/s.sock")));
    assert!(!view.run.contains(&PathBuf::from("/run/docker.sock")));
}

#[test]
fn listening_sockets_are_found_by_path() {
    let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000: 00000002 00000000 00010000 0001 01 20000 /run/a.sock
0000: 00000003 00000000 00000000 0001 03 20001 /run/a.sock-connected
0000: 00000002 00000000 00000000 0002 01 20002 /run/log
0000: 00000002 00000000 00010000 0001 01 20003 @abstract
0000: 00000003 00000000 00000000 0001 03 20004
";
    assert_eq!(bound_sockets(table), paths(&["/run/a.sock", "/run/log"]));
}
