"""What an agent must not reach: another network namespace with a listener on its wire, and
helpers beside the agent, in no session. Everything that is seen goes into one list.
"""

import ctypes
import errno
import os
import selectors
import socket as s
import struct
import subprocess
import threading
import time

import host
import layers

libc = ctypes.CDLL(None, use_errno=True)
DEVICE = "out0"
OWN4, OWN6, SINK4, SINK6 = "198.51.100.1", "2001:db8:5::1", "198.51.100.2", "2001:db8:5::2"
DIRECTORY = "/tmp/routes"
VSOCK = 5000
# Of the policy's service, at the sink: four for each run.
SERVICES = range(5432, 5492)
MODULES = ("vsock_loopback", "af_alg", "algif_hash", "sctp", "dccp", "dccp_ipv4", "tipc", "tun")


def in_far(make):
    """Makes something, a socket, in the far namespace."""
    ours, theirs = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open("/run/netns/far", os.O_RDONLY)
    try:
        if libc.setns(theirs, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        return make()
    finally:
        libc.setns(ours, 0)
        os.close(ours)
        os.close(theirs)


def cable():
    for words in (
        ("netns", "add", "far"),
        ("link", "add", DEVICE, "type", "veth", "peer", "name", "in0", "netns", "far"),
        ("address", "add", f"{OWN4}/24", "brd", "+", "dev", DEVICE),
        ("address", "add", f"{OWN6}/64", "dev", DEVICE, "nodad"),
        ("link", "set", DEVICE, "up"),
        ("-n", "far", "address", "add", f"{SINK4}/24", "dev", "in0"),
        ("-n", "far", "address", "add", f"{SINK6}/64", "dev", "in0", "nodad"),
        ("-n", "far", "link", "set", "in0", "up"),
        ("-n", "far", "link", "set", "lo", "up"),
        ("route", "add", "239.0.0.0/8", "dev", DEVICE),
    ):
        host.run("ip", *words)


class Outside:
    """All of it; one for the whole run."""

    def __init__(self):
        cable()
        for module in MODULES:
            host.run("modprobe", "-q", module, check=False)
        # As without any of the distribution's own protection of processes.
        for name, value in (("kernel/yama/ptrace_scope", "0"), ("net/ipv4/ping_group_range", "0 2147483647"),
                            ("net/ipv4/tcp_fastopen", "1027"), ("kernel/printk_devkmsg", "on")):
            try:
                open(f"/proc/sys/{name}", "w").write(value)
            except FileNotFoundError:
                pass
        self.lock, self.texts, self.ports = threading.Lock(), [], set()
        self.selector = selectors.DefaultSelector()
        os.makedirs(DIRECTORY, exist_ok=True)
        os.chmod(DIRECTORY, 0o1777)
        self._wire()
        self._helpers()
        self._objects()
        self.module = host.run("modinfo", "-n", "dummy")
        self.find_link("getpeername6")
        threading.Thread(target=self._watch, daemon=True).start()

    # --- what is seen -------------------------------------------------------------------

    def saw(self, text):
        text = text.encode() if isinstance(text, str) else text
        with self.lock:
            return any(text in seen for seen in self.texts)

    def saw_port(self, port):
        with self.lock:
            return port in self.ports

    def _note(self, data):
        with self.lock:
            self.texts.append(data)

    def _watch(self):
        while True:
            for key, _ in self.selector.select():
                try:
                    key.data(key.fileobj)
                except OSError:
                    self.selector.unregister(key.fileobj)

    def _on(self, thing, act):
        if hasattr(thing, "setblocking"):
            thing.setblocking(False)
        self.selector.register(thing, selectors.EVENT_READ, act)
        return thing

    # --- the far end of the wire ----------------------------------------------------------

    def _wire(self):
        wire = in_far(lambda: s.socket(s.AF_PACKET, s.SOCK_RAW, s.htons(3)))
        for port in SERVICES:
            self._on(in_far(lambda: s.create_server(("::", port), family=s.AF_INET6, dualstack_ipv6=True)),
                     self._accept)
        # Whom the connected sockets speak to: without it they would be told that nobody is there.
        self.listener = in_far(lambda: s.socket(s.AF_INET, s.SOCK_DGRAM))
        self.listener.bind(("", 9))
        self._on(self.listener, lambda listener: listener.recv(4096))
        wire.setsockopt(s.SOL_SOCKET, s.SO_RCVBUF, 4 << 20)
        self._on(wire, self._frame)

    def _frame(self, wire):
        data, (_, _, kind, _, _) = wire.recvfrom(4096)
        if kind == s.PACKET_OUTGOING:
            return
        self._note(data)
        ethertype = data[12:14]
        if ethertype == b"\x08\x00" and len(data) > 34:
            protocol, at = data[23], 14 + (data[14] & 15) * 4
        elif ethertype == b"\x86\xdd" and len(data) > 54:
            protocol, at = data[20], 54
            if protocol == 43:  # a routing header
                protocol, at = data[54], 54 + 8 + data[55] * 8
        else:
            return
        if protocol in (6, 17, 33, 132, 136) and len(data) >= at + 4:
            with self.lock:
                self.ports.add(struct.unpack_from("!H", data, at + 2)[0])

    # --- helpers beside the agent ------------------------------------------------------------

    def _helpers(self):
        for kind in ("stream", "seqpacket", "dgram"):
            for name in (f"{DIRECTORY}/{kind}", f"@routes-{kind}"):
                self._unix(kind, name)
        self.udp = s.socket(s.AF_INET, s.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", 0))
        self._on(self.udp, self._read)
        self.netlink = s.socket(s.AF_NETLINK, s.SOCK_RAW, 2)
        self.netlink.bind((77_777, 0))
        self._on(self.netlink, self._read)
        try:
            vsock = s.socket(s.AF_VSOCK, s.SOCK_STREAM)
            vsock.bind((0xFFFFFFFF, VSOCK))
            vsock.listen()
            self._on(vsock, self._accept)
        except OSError:
            pass  # not in this kernel
        self.fifo = f"{DIRECTORY}/fifo"
        os.mkfifo(self.fifo)
        os.chmod(self.fifo, 0o666)
        self._on(os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK), lambda fd: self._note(os.read(fd, 4096)))
        pair, self.pair = s.socketpair()
        self._on(pair, self._read)
        self.terminal_far, self.terminal = os.openpty()
        listener = s.create_server((OWN4, 0))
        self.stream = s.create_connection(listener.getsockname())
        self._on(listener.accept()[0], self._read)

    def _unix(self, kind, name):
        helper = s.socket(s.AF_UNIX, getattr(s, f"SOCK_{kind.upper()}"))
        helper.bind(name.replace("@", "\0", 1))
        if not name.startswith("@"):
            os.chmod(name, 0o777)
        if kind == "dgram":
            self._on(helper, self._read)
        else:
            helper.listen()
            self._on(helper, lambda listener: self._accept(listener, name))

    def server(self):
        """The port of one more server on this host."""
        listener = s.create_server(("0.0.0.0", 0))
        port = listener.getsockname()[1]
        self._on(listener, lambda listener: self._accept(listener, f"local port {port}."))
        return port

    def _accept(self, listener, note=None):
        client, _ = listener.accept()
        if note:
            self._note(f"connected {note}".encode())
        self._on(client, self._read)

    def _read(self, sock):
        if sock.family == s.AF_UNIX:
            data, fds, _, _ = s.recv_fds(sock, 4096, 4)
            for fd in fds:
                self._note(os.read(fd, 4096))
                os.close(fd)
        else:
            data = sock.recv(4096)
        if not data and sock.type != s.SOCK_DGRAM:
            self.selector.unregister(sock)
            sock.close()
            return
        self._note(data)

    def _objects(self):
        """Objects with permissions that let everybody in."""
        self.file = f"{DIRECTORY}/file"
        open(self.file, "w").close()
        os.chmod(self.file, 0o666)
        self.key = 0x706F7274
        self.shared = libc.shmget(self.key, 64, 0o1666)
        libc.shmat.restype = ctypes.c_void_p
        self.shared_at = libc.shmat(self.shared, None, 0)
        self.queue = libc.msgget(self.key, 0o1666)
        attributes = (ctypes.c_long * 8)(0, 8, 64)
        old = os.umask(0)
        self.mqueue = libc.syscall(240, b"routes", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666, attributes)
        os.umask(old)

    def collect(self):
        """Looks into the objects that nobody watches."""
        self._note(open(self.file, "rb").read())
        open(self.file, "w").close()
        self._note(ctypes.string_at(self.shared_at, 64))
        text = ctypes.create_string_buffer(200)
        while libc.msgrcv(self.queue, text, 190, 0, 0o4000) >= 0:
            self._note(text.raw)
        while libc.syscall(243, self.mqueue, text, 200, None, None) >= 0:
            self._note(text.raw)

    # --- what goes into a session, by request ---------------------------------------------------

    def descriptors(self):
        """Fresh ones for each session, for those that tries use up."""
        pair_in, pair_in_far = s.socketpair()
        made = {
            "udp": s.socket(s.AF_INET, s.SOCK_DGRAM), "connected": s.socket(s.AF_INET, s.SOCK_DGRAM),
            "tcp": s.socket(s.AF_INET, s.SOCK_STREAM), "tcp_fastopen": s.socket(s.AF_INET, s.SOCK_STREAM),
            "stream": self.stream, "bound": s.socket(s.AF_INET, s.SOCK_STREAM),
            "raw": s.socket(s.AF_INET, s.SOCK_RAW, 253),
            "packet": s.socket(s.AF_PACKET, s.SOCK_DGRAM, 0), "pair": self.pair, "pair_in": pair_in,
            "unix_dgram": s.socket(s.AF_UNIX, s.SOCK_DGRAM), "terminal": self.terminal,
            "cgroup": os.open("/sys/fs/cgroup", os.O_RDONLY),
            "procs": os.open("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY),
        }
        made["connected"].connect((SINK4, 9))
        made["bound"].bind(("0.0.0.0", 0))
        return made, pair_in_far

    def call_in(self, request, until):
        """Somebody outside calls the agent, which serves `request["call"]`. What became of it:
        "been", "sent", a refusal's errno, or why not yet."""
        token = request["token"].encode()
        end, came_to = time.monotonic() + 4, "NEVER"
        while time.monotonic() < end and not until():
            try:
                if self._call_once(request, token):
                    return "been"
            except PermissionError as error:
                self._been(request)
                return errno.errorcode[error.errno]
            except TimeoutError:
                came_to = "timed out"
            except (OSError, ValueError) as error:
                # It does not serve yet; or no longer, and then it was knocked at before.
                came_to = came_to if came_to == "timed out" else str(error)
            else:
                came_to = "sent"
            time.sleep(0.03)
        return came_to

    def _been(self, request):
        """Says to the agent that nobody will come any more."""
        open(f"{request['meet']}.been", "w").close()

    def _call_once(self, request, token):
        how, port = request["call"], request["port"]
        if how in ("unix", "rights"):
            os.stat(request["meet"])
            if how == "rights":
                way = s.socket(s.AF_UNIX, s.SOCK_DGRAM)
                way.connect(request["meet"])
                s.send_fds(way, [b"take"], [request["own"]])
                self._been(request)
                return True
            way = s.socket(s.AF_UNIX, s.SOCK_STREAM)
            way.settimeout(4)
            way.connect(request["meet"])
            self._been(request)
        elif how == "udp":
            in_far(lambda: s.socket(s.AF_INET, s.SOCK_DGRAM)).sendto(token, (OWN4, port))
            return False
        else:
            if how == "autobind":
                port = int(open(request["meet"]).read())
            family = s.AF_INET6 if how == "tcp6" else s.AF_INET
            way = in_far(lambda: s.socket(family, s.SOCK_STREAM))
            way.settimeout(0.3)
            way.connect((OWN6 if how == "tcp6" else OWN4, port))
            way.settimeout(4)
        self._note(way.recv(100))
        return True

    # --- what becomes of a try ----------------------------------------------------------------------

    def typed(self, r):
        """Was it typed into the terminal?"""
        os.set_blocking(self.terminal, False)
        try:
            return r["token"].encode() in os.read(self.terminal, 4096)
        except BlockingIOError:
            return False

    def listens(self, r):
        """Does the socket, which is ours as well, listen now?"""
        return r["own_fds"]["bound"].getsockopt(s.SOL_SOCKET, s.SO_ACCEPTCONN) == 1

    def key_of(self, r):
        """Does another process of the user see the key?"""
        return r["token"] in host.run("cat", "/proc/keys", user=r["user"])

    def find_link(self, hook):
        """One of the gate's programs, for those who would detach it."""
        self.link = layers.pinned(f"{layers.PINS}/links/{hook}")["id"]

    def is_detached(self, r):
        """Has the link that we have pinned lost its cgroup?"""
        return "cgroup_id 0 " in host.run("bpftool", "link", "show", "id", str(r["link"])) + " "


class Victim:
    """The process outside of the agent's user."""

    def __init__(self, user, word):
        words = ["python3", "-B", f"{host.PAYLOAD}/guest/victim.py", SINK4, word]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, user=user, group=user,
                                        extra_groups=[], env={"SECRET": "outside", "PATH": os.environ["PATH"]})
        fd, buffer = self.process.stdout.readline().split()
        self.request = {"victim": self.process.pid, "victim_fd": int(fd), "buffer": int(buffer)}

    def end(self):
        self.process.kill()
        self.process.wait()
