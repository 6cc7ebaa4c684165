"""The ways out: what each is, and what must be seen outside to call it reached.

`seen`: `token` (somebody outside has the token), `port` (a packet to the way's own port
at the sink), `service` (one to its own port of the service, of which each run has four), `connected` (a helper's
accept), `group4`/`group6` (a report of membership), `ok` (the call itself is the way),
`told` (the agent has the token), or a function that looks at the host.
"""

import os

import host
from outside import DIRECTORY


class Way:
    def __init__(self, name, what, seen="token", module=None, **request):
        self.name, self.what, self.seen = name, what, seen
        self.request = {"module": module or _module, "way": request.pop("way", name), **request}


def reads(path):
    def look(r):
        with open(path) as file:
            return r["token"] in file.read()
    return look


def logged(r):
    """Is it in the kernel's log?"""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                if r["token"].encode() in os.read(log, 8192):
                    return True
            except BrokenPipeError:
                pass  # overwritten meanwhile
    except BlockingIOError:
        return False
    finally:
        os.close(log)


def loaded(name):
    return lambda r: any(line.split()[0] == name for line in open("/proc/modules"))


def spool(r):
    return any(r["token"] in open(f"/var/spool/cron/crontabs/{name}").read()
               for name in os.listdir("/var/spool/cron/crontabs"))


def job(r):
    """atd has run it, or will: it looks into its spool by itself, too."""
    spool = "/var/spool/cron/atjobs"
    return r["outside"].saw(r["token"]) or any(
        r["token"] in open(f"{spool}/{name}").read() for name in os.listdir(spool))


def collected(r):
    r["outside"].collect()
    return r["outside"].saw(r["token"])


def limited(r):
    return str(r["port"]) in open(f"/proc/{r['victim']}/limits").read()


def niced(r):
    return os.getpriority(os.PRIO_PROCESS, r["victim"]) == 7


def signalled(number):
    return lambda r: r["outside"].saw(f"{r['word']}signal-{number}.")


_module = "escape"
NETWORK = [
    Way("tcp_v4", "TCP by IPv4", "port"),
    Way("tcp_v6", "TCP by IPv6", "port"),
    Way("tcp_mapped", "TCP by an IPv4-mapped address", "port"),
    Way("tcp_bound_source", "TCP from a bound source address", "port"),
    Way("tcp_bind_to_device", "TCP to the service, SO_BINDTODEVICE", "service", service=0),
    Way("tcp_device_later", "TCP to the gate, SO_BINDTODEVICE afterwards", "token", service=1),
    Way("tcp_nonblocking", "TCP, non-blocking connect()", "port"),
    Way("tcp_fastopen_sendto", "TCP fast open by sendto()", "port"),
    Way("tcp_fastopen_option", "TCP fast open by option", "port"),
    Way("mptcp", "MPTCP", "port"),
    Way("tcp_mark", "TCP with SO_MARK", "port"),
    Way("tcp_unspec_reconnect", "TCP, connected again after AF_UNSPEC", "port", service=1),
    Way("tcp_loopback", "TCP to a server on 127.0.0.1", "connected"),
    Way("tcp_own_address", "TCP to a server on the host's own address", "connected"),
    Way("tcp_source_route", "TCP with a source route", "service", service=2),
    Way("tcp_routing_header", "TCP with an IPv6 routing header", "service", service=3),
    Way("udp_sendto", "UDP sendto()"),
    Way("udp_sendto_v6", "UDP sendto() by IPv6"),
    Way("udp_sendto_mapped", "UDP sendto() to an IPv4-mapped address"),
    Way("udp_sendmsg", "UDP sendmsg()"),
    Way("udp_connected", "UDP, connected"),
    Way("udp_connected_v6", "UDP by IPv6, connected"),
    Way("udp_broadcast", "UDP broadcast"),
    Way("udp_multicast", "UDP multicast"),
    Way("udp_multicast_v6", "UDP multicast by IPv6"),
    Way("udp_pktinfo", "UDP with IP_PKTINFO"),
    Way("udp_unicast_if", "UDP with IP_UNICAST_IF"),
    Way("udp_cmsg_source_route", "UDP with a source route as control message"),
    Way("udp_loopback", "UDP to a server on 127.0.0.1"),
    Way("join_igmp", "joining a group: the kernel's IGMP report", "group4"),
    Way("join_mld", "joining a group: the kernel's MLD report", "group6"),
    Way("udplite", "UDP-Lite sendto()"),
    Way("udplite_connected", "UDP-Lite, connected"),
    Way("ping", "ping socket"),
    Way("ping_v6", "ping socket by IPv6"),
    Way("raw", "raw socket"),
    Way("raw_v6", "raw socket by IPv6"),
    Way("raw_header", "raw socket, own header with a false source"),
    Way("sctp", "SCTP", "port"),
    Way("dccp", "DCCP", "port"),
    Way("uring_connect", "io_uring connect", "port"),
    Way("uring_sendmsg", "io_uring sendmsg, UDP"),
    Way("uring_fastopen_sendmsg", "io_uring sendmsg, TCP fast open", "port"),
    Way("uring_socket", "io_uring socket, raw"),
]

_module = "ways.sockets"
SOCKETS = [
    Way("tcp_served", "inbound: a TCP listener of the agent", call="tcp"),
    Way("tcp_served_v6", "inbound: a TCP listener by IPv6", call="tcp6"),
    Way("tcp_served_autobind", "inbound: listen() without bind()", call="autobind"),
    Way("udp_served", "inbound: a UDP socket of the agent", "told", call="udp"),
    Way("packet", "AF_PACKET: whole frames"),
    Way("packet_dgram", "AF_PACKET without the header"),
    Way("vsock", "AF_VSOCK to a helper on the host"),
    Way("netlink_usersock", "netlink user socket to a helper"),
    Way("alg_module", "AF_ALG: the kernel loads a module for us", loaded("wp512")),
    Way("tun", "packets by a TUN device"),
    Way("inherited_udp_sendto", "inherited UDP socket, sendto()"),
    Way("inherited_udp_write", "inherited UDP socket, write()"),
    Way("inherited_udp_splice", "inherited UDP socket, splice()"),
    Way("inherited_udp_sendfile", "inherited UDP socket, sendfile()"),
    Way("inherited_uring_send", "inherited UDP socket, io_uring send"),
    Way("inherited_uring_write", "inherited UDP socket, io_uring write"),
    Way("inherited_tcp_connect", "inherited TCP socket, connect()", "port"),
    Way("inherited_tcp_fastopen", "inherited TCP socket, fast open", "port"),
    Way("inherited_tcp_send", "inherited TCP connection"),
    Way("inherited_tcp_listen", "inherited TCP socket, listen()", lambda r: r["outside"].listens(r)),
    Way("inherited_raw", "inherited raw socket"),
    Way("inherited_packet", "inherited packet socket"),
    Way("inherited_unix_pair", "inherited unix socket pair"),
    Way("inherited_unix_dgram", "inherited unix datagram socket"),
    Way("inherited_unix_recv", "inherited unix socket, read", "told"),
    Way("passed_socket", "socket passed in a datagram (SCM_RIGHTS)", call="rights"),
    Way("unix_stream_path", "unix stream socket of a helper, path", unix=f"{DIRECTORY}/stream"),
    Way("unix_stream_abstract", "unix stream socket of a helper, abstract", unix="@routes-stream"),
    Way("unix_seqpacket_path", "unix seqpacket socket of a helper, path", unix=f"{DIRECTORY}/seqpacket"),
    Way("unix_seqpacket_abstract", "unix seqpacket socket of a helper, abstract", unix="@routes-seqpacket"),
    Way("unix_dgram_path", "unix datagram to a helper, path", unix=f"{DIRECTORY}/dgram"),
    Way("unix_dgram_abstract", "unix datagram to a helper, abstract", unix="@routes-dgram"),
    Way("unix_dgram_connected", "unix datagram socket of a helper, connected", unix=f"{DIRECTORY}/dgram"),
    Way("unix_rights", "a descriptor for a helper (SCM_RIGHTS)", unix=f"{DIRECTORY}/stream"),
    Way("unix_served", "a helper connects to the agent's unix socket", call="unix"),
    Way("dbus_hello", "D-Bus: the system bus", "ok"),
    Way("journal_log", "the journal's socket", lambda r: host.until("the journal", lambda: r["token"] in host.run(
        "journalctl", "-b", "--no-pager", "-o", "cat", "-t", "agent", "-n", "5"), 3)),
]
for _name, _family, _kind, _proto in (
    ("AF_XDP", 44, 3, 0), ("AF_ALG", 38, 5, 0), ("TIPC", 30, 1, 0), ("RDS", 21, 5, 0), ("KCM", 41, 2, 0),
    ("SMC", 43, 1, 0), ("Bluetooth", 31, 3, 1), ("QIPCRTR", 42, 2, 0), ("PPPoX", 24, 1, 0),
    ("CAN", 29, 3, 1), ("LLC", 26, 1, 0), ("RXRPC", 33, 2, 2), ("AF_KEY", 15, 3, 2),
):
    SOCKETS.append(Way(f"family_{_name.lower()}", f"{_name} socket", "ok", way="family",
                       family=_family, kind=_kind, proto=_proto))
for _name, _proto in (("sock_diag", 4), ("xfrm", 6), ("audit", 9), ("netfilter", 12), ("uevent", 15), ("generic", 16)):
    SOCKETS.append(Way(f"netlink_{_name}", f"netlink: {_name}", "ok", way="family_bound", proto=_proto))

_module = "ways.processes"
PROCESSES = [
    Way("pidfd_getfd", "pidfd_getfd() of a process outside"),
    Way("memory_file", "/proc/PID/mem of a process outside", slot=0),
    Way("process_vm_writev", "process_vm_writev()", slot=1),
    Way("ptrace", "ptrace(): attach and write", slot=2),
    Way("ptrace_seize", "ptrace(): seize", "ok"),
    Way("environment", "/proc/PID/environ: secrets of a process outside", "ok"),
    Way("signal_outside", "kill()", signalled(10)),
    Way("pidfd_signal", "pidfd_send_signal()", signalled(12)),
    Way("file_owner_signal", "a signal by F_SETOWN", signalled(1)),
    Way("limits", "bits in resource limits (prlimit)", limited),
    Way("priority", "bits in a priority", niced),
    Way("move_to_root", "cgroup.procs of the root cgroup"),
    Way("move_to_sibling", "cgroup.procs of another cgroup"),
    Way("move_to_parent", "cgroup.procs of the enforced parent"),
    Way("child_cgroup", "a child cgroup of its own"),
    Way("move_by_directory", "cgroup.procs by an inherited directory"),
    Way("move_by_descriptor", "cgroup.procs, inherited open"),
    Way("move_by_uring", "cgroup.procs, inherited open, written by io_uring"),
    Way("clone_into", "clone3() into another cgroup"),
    Way("mount_cgroup", "a cgroup2 mount of its own"),
    Way("fsmount_cgroup", "a cgroup2 mount by fsmount()"),
    Way("move_mount", "move_mount()", "ok"),
    Way("mount_tmpfs", "mount()", "ok"),
    Way("filesystem_module", "mount(): the kernel loads a module for us", loaded("overlay")),
    Way("enter_netns", "setns() into the sink's network namespace"),
    Way("enter_init", "setns() into PID 1's namespaces", "ok"),
    Way("pidfd_setns", "setns() by a pidfd", "ok"),
    Way("user_namespace", "a new user namespace", "ok"),
    Way("user_and_network", "root of a new network namespace", "ok"),
    Way("mount_namespace", "a new mount namespace", "ok"),
    Way("network_namespace", "a new network namespace", "ok"),
    Way("cgroup_namespace", "a new cgroup namespace", "ok"),
]

_module = "ways.kernel"
KERNEL = [
    Way("core_pattern", "core_pattern: a helper that the kernel starts", reads("/proc/sys/kernel/core_pattern")),
    Way("modprobe_path", "the path of modprobe", reads("/proc/sys/kernel/modprobe")),
    Way("forwarding", "forwarding of packets (sysctl)",
        lambda r: open("/proc/sys/net/ipv4/ip_forward").read() == "1\n"),
    Way("sysrq", "/proc/sysrq-trigger", "ok"),
    Way("kernel_log", "/dev/kmsg", logged),
    Way("uevent_helper", "uevent_helper", reads("/sys/kernel/uevent_helper")),
    Way("uevent", "an event for udev by sysfs", "ok"),
    Way("kprobe", "a probe by tracefs", lambda r: r["token"].replace("-", "_") in open(
        "/sys/kernel/tracing/kprobe_events").read()),
    Way("memory", "/dev/mem", "ok"),
    Way("ports", "/dev/port", "ok"),
    Way("disk", "the disk below the file system", "ok"),
    Way("device_node", "the disk by a node of its own", "ok"),
    Way("module", "finit_module()", loaded("dummy")),
    Way("kexec", "kexec_load()", "ok"),
    Way("host_name", "sethostname()", reads("/proc/sys/kernel/hostname")),
    Way("accounting", "acct()", "ok"),
    Way("change_root", "chroot()", "ok"),
    Way("file_handle", "open_by_handle_at()", "ok"),
    Way("perf", "perf_event_open() of a processor", "ok"),
    Way("route", "a route", lambda r: f"203.0.113.{r['run']} " in host.run("ip", "route") + " "),
    Way("address", "an address", lambda r: f"203.0.113.{100 + r['run']}/" in host.run("ip", "address")),
    Way("traffic_control", "tc", lambda r: f"pfifo {r['run']}:" in host.run("tc", "qdisc")),
    Way("bpf_map", "bpf(): a map", "ok"),
    Way("bpf_attach", "bpf(): a program on the root cgroup", "ok"),
    Way("systemd_run", "systemd-run by systemd's socket"),
    Way("systemd_run_bus", "systemd-run by D-Bus"),
    Way("at_job", "a job for atd", lambda r: host.until("atd", lambda: job(r), 20)),
    Way("cron_table", "a table for cron (crontab)", spool),
    Way("cron_file", "a file for cron", reads("/etc/cron.d/way")),
    Way("terminal", "TIOCSTI: typing into a terminal outside", lambda r: r["outside"].typed(r)),
    Way("terminal_compat", "the same by a 32-bit system call", lambda r: r["outside"].typed(r)),
    Way("named_pipe", "a named pipe that a process outside reads"),
    Way("plain_file", "a file that a process outside reads", collected),
    Way("shared_memory", "shared memory (System V) of a process outside", collected),
    Way("message_queue", "a message queue (System V)", collected),
    Way("posix_queue", "a message queue (POSIX)", collected),
    Way("keyring", "the user's keyring", lambda r: r["outside"].key_of(r)),
    Way("set_user_id", "a set-user-id program for others", lambda r: bool(
        os.stat(f"/tmp/{r['token']}-suid").st_mode & 0o4000)),
    # Last: what it takes away, only a new start of the daemon puts back.
    Way("bpf_detach", "bpf(): detaching a program of the gate", lambda r: r["outside"].is_detached(r)),
]

WAYS = NETWORK + SOCKETS + PROCESSES + KERNEL
