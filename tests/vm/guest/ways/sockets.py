"""Sockets that the cgroup hooks do not see: other families, and those from outside.

`r["fds"]` names descriptors that were open before the session was.
"""

import array
import os
import select
import socket as s
import struct
import time

import escape
from ways import syscall


def body(r):
    return r["token"].encode()


def inherited(r, name):
    return s.socket(fileno=os.dup(r["fds"][name]))


def peer(r):
    return (r["v4"], r["port"])


# --- other families --------------------------------------------------------------------

def packet(r):
    escape.packet(r)


def packet_dgram(r):
    p = s.socket(s.AF_PACKET, s.SOCK_DGRAM, s.htons(0x88B5))
    p.sendto(body(r).ljust(60, b"\0"), (r["device"], 0x88B5, 0, 0, b"\xff" * 6))


def vsock(r):
    with s.socket(s.AF_VSOCK, s.SOCK_STREAM) as v:
        v.settimeout(1)
        v.connect((1, r["vsock"]))
        v.send(body(r))


def netlink_usersock(r):
    n = s.socket(s.AF_NETLINK, s.SOCK_RAW, 2)
    n.sendto(body(r).ljust(64, b"\0"), (r["netlink"], 0))


def alg_module(_):
    """A cipher that is not loaded: the kernel loads its module for us."""
    a = s.socket(s.AF_ALG, s.SOCK_SEQPACKET)
    a.bind(("hash", "wp512"))


# --- sockets from outside ------------------------------------------------------------------

def inherited_udp_sendto(r):
    inherited(r, "udp").sendto(body(r), peer(r))


def inherited_udp_write(r):
    os.write(r["fds"]["connected"], body(r))


def inherited_udp_splice(r):
    read, write = os.pipe()
    os.write(write, body(r))
    os.splice(read, r["fds"]["connected"], 100)


def inherited_udp_sendfile(r):
    fd = os.memfd_create("x")
    os.write(fd, body(r))
    os.sendfile(r["fds"]["connected"], fd, 0, 100)


def inherited_tcp_connect(r):
    t = inherited(r, "tcp")
    t.settimeout(0.5)
    t.connect(peer(r))


def inherited_tcp_fastopen(r):
    t = inherited(r, "tcp_fastopen")
    t.settimeout(0.5)
    t.sendto(body(r), s.MSG_FASTOPEN, peer(r))


def inherited_tcp_send(r):
    inherited(r, "stream").send(body(r))


def inherited_tcp_listen(r):
    inherited(r, "bound").listen()


def inherited_raw(r):
    inherited(r, "raw").sendto(body(r), (r["v4"], 0))


def inherited_packet(r):
    p = inherited(r, "packet")
    p.sendto(body(r).ljust(60, b"\0"), (r["device"], 0x88B5, 0, 0, b"\xff" * 6))


def inherited_unix_pair(r):
    inherited(r, "pair").send(body(r))


def inherited_unix_dgram(r):
    inherited(r, "unix_dgram").sendto(body(r), r["dgram"])


def inherited_unix_recv(r):
    """What somebody outside said, read by a socket from outside."""
    p = inherited(r, "pair_in")
    p.settimeout(0.5)
    return p.recv(100).decode()


def inherited_uring_send(r):
    where = escape.ctypes.create_string_buffer(body(r), len(body(r)))
    escape.kept.append(where)
    escape.ring(escape.entry(26, r["fds"]["connected"], escape.ctypes.addressof(where), len(body(r))))


def inherited_uring_write(r):
    where = escape.ctypes.create_string_buffer(body(r), len(body(r)))
    escape.kept.append(where)
    escape.ring(escape.entry(23, r["fds"]["connected"], escape.ctypes.addressof(where), len(body(r))))


def passed_socket(r):
    """A socket that somebody outside sends us: SCM_RIGHTS in a datagram."""
    u = s.socket(s.AF_UNIX, s.SOCK_DGRAM)
    u.bind(r["meet"])
    os.chmod(r["meet"], 0o777)
    visited(u, r)
    _, ancillary, flags, _ = u.recvmsg(100, 1000)
    if not ancillary:
        raise OSError(13, f"no descriptor came, flags {flags:#x}")
    fds = array.array("i", ancillary[0][2][:4])
    s.socket(fileno=fds[0]).sendto(body(r), peer(r))


# --- unix sockets of helpers ---------------------------------------------------------------

def unix_send(r, kind):
    u = s.socket(s.AF_UNIX, kind)
    u.settimeout(1)
    u.connect(r["unix"].replace("@", "\0", 1))
    u.send(body(r))


def unix_stream_path(r):
    unix_send(r, s.SOCK_STREAM)


unix_stream_abstract = unix_stream_path


def unix_seqpacket_path(r):
    unix_send(r, s.SOCK_SEQPACKET)


unix_seqpacket_abstract = unix_seqpacket_path


def unix_dgram_path(r):
    escape.unix_dgram_sendto(r)


unix_dgram_abstract = unix_dgram_path


def unix_dgram_connected(r):
    unix_send(r, s.SOCK_DGRAM)


def unix_rights(r):
    """A descriptor of ours goes to a helper, which would use it for us."""
    read, write = os.pipe()
    os.write(write, body(r))
    u = s.socket(s.AF_UNIX, s.SOCK_STREAM)
    u.connect(r["unix"])
    s.send_fds(u, [b"take"], [read])


def unix_served(r):
    """Somebody outside connects to us, and is told."""
    u = s.socket(s.AF_UNIX, s.SOCK_STREAM)
    u.bind(r["meet"])
    os.chmod(r["meet"], 0o777)
    u.listen()
    visited(u, r)
    u.accept()[0].send(body(r))


def visited(unix, r):
    """Waits for a visitor, who says by a file that he has been there or was refused: what he
    has left is in the queue then. Nobody is late."""
    said = f"{r['meet']}.been"
    end = time.monotonic() + r["patience"]
    while not os.path.exists(said) and time.monotonic() < end:
        if select.select([unix], [], [], 0.02)[0]:
            return
    if not select.select([unix], [], [], 0)[0]:
        raise TimeoutError("nobody came")


def tcp_served(r, family=s.AF_INET):
    t = s.socket(family, s.SOCK_STREAM)
    t.setsockopt(s.SOL_SOCKET, s.SO_REUSEADDR, 1)
    t.bind(("", r["port"]))
    t.listen()
    t.settimeout(r["patience"])
    t.accept()[0].send(body(r))


def tcp_served_v6(r):
    tcp_served(r, s.AF_INET6)


def tcp_served_autobind(r):
    """A port that the kernel chooses when it listens; known by asking."""
    t = s.socket(s.AF_INET, s.SOCK_STREAM)
    t.listen()
    with open(r["meet"], "w") as file:
        file.write(str(t.getsockname()[1]))
    t.settimeout(r["patience"])
    t.accept()[0].send(body(r))


def udp_served(r):
    u = s.socket(s.AF_INET, s.SOCK_DGRAM)
    u.bind(("", r["port"]))
    u.settimeout(r["patience"])
    return u.recv(100).decode()


def dbus_hello(r):
    """The system bus greets whoever connects."""
    u = s.socket(s.AF_UNIX, s.SOCK_STREAM)
    u.settimeout(2)
    u.connect("/run/dbus/system_bus_socket")
    u.send(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    if not u.recv(100).startswith(b"OK"):
        raise OSError(13, "not greeted")


def journal_log(r):
    u = s.socket(s.AF_UNIX, s.SOCK_DGRAM)
    u.sendto(b"<30>agent: " + body(r), "/run/systemd/journal/dev-log")


def tun(r):
    """A packet that seems to have come from elsewhere, by a device of our own."""
    import fcntl

    fd = os.open("/dev/net/tun", os.O_RDWR)
    name = b"way%d" % r["run"]
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name, 0x1001))
    control = s.socket(s.AF_INET, s.SOCK_DGRAM)
    fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", name, 0x1 | 0x40))
    udp = struct.pack("!HHHH", 7, r["local_udp"], 8 + len(body(r)), 0) + body(r)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       s.inet_aton(r["v4"]), s.inet_aton(r["own4"]))
    words = struct.unpack("!10H", head)
    total = sum(words)
    total = (total >> 16) + (total & 0xFFFF)
    check = ~(total + (total >> 16)) & 0xFFFF
    os.write(fd, head[:10] + struct.pack("!H", check) + head[12:] + udp)


def family(r):
    """Only opens the door: what is behind it is not for us to try."""
    os.close(syscall(41, r["family"], r["kind"], r["proto"]))


def family_bound(r):
    """A netlink protocol, bound as a program would that speaks it."""
    n = s.socket(s.AF_NETLINK, s.SOCK_RAW, r["proto"])
    n.bind((0, 0))
