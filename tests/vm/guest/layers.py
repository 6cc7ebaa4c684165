"""The layers of the gate, put in force and taken away, and an agent under them.

Without LSM means that the pins of its links are gone, so that the kernel lets go of the
programs; a new start of the daemon puts them back.
"""

import ctypes
import json
import os
import select
import shutil
import struct
import subprocess

import host

USERS = ("root", "agent")
NONE, HOOKS, LSM = "none", "all cgroup hooks", "all cgroup hooks + BPF LSM"
LAUNCHER, ALL = "all cgroup hooks + launcher", "all cgroup hooks + BPF LSM + launcher"

SIBLING = "/sys/fs/cgroup/no-gate"
PINS = "/sys/fs/bpf/portcullis"
libc = ctypes.CDLL(None, use_errno=True)


def bpf(what, text):
    attributes = ctypes.create_string_buffer(text, 128)
    result = libc.syscall(321, what, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({what})")
    return result


def pinned(path):
    return json.loads(host.run("bpftool", "-j", "link", "show", "pinned", path))


class Lsm:
    """The programs, kept by descriptors of ours, so that each can be attached alone."""

    def __init__(self):
        self.programs = {}
        for hook in sorted(os.listdir(f"{PINS}/lsm")):
            number = pinned(f"{PINS}/lsm/{hook}")["prog_id"]
            self.programs[hook] = bpf(13, struct.pack("=I", number))

    def detach_all(self):
        shutil.rmtree(f"{PINS}/lsm")

    def close(self):
        for descriptor in self.programs.values():
            os.close(descriptor)

    def attach(self, hook):
        """A link that lasts as long as the descriptor."""
        return bpf(17, struct.pack("=QI", 0, self.programs[hook]))


def restart():
    """All layers, as the daemon puts them in force."""
    host.run("systemctl", "reset-failed", "portcullisd", check=False)
    host.run("systemctl", "restart", "portcullisd")


def without_gate(user):
    """In a cgroup beside the gate's."""
    become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return ["sh", "-c", f'echo $$ >{SIBLING}/cgroup.procs; exec "$@"', "sh", *become]


def bare(user):
    """In a session, with nothing given up."""
    return ["python3", "-B", f"{host.PAYLOAD}/guest/enter.py", user]


def launched(user):
    """By `portcullis run`; an ordinary user starts it itself."""
    become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--groups=portcullis"]
    return [*become, "portcullis", "run", "--as", "analyst", "--"]


class Agent:
    """A process that tries ways, one after the other."""

    def __init__(self, prefix, descriptors):
        # High numbers, so that one that was closed is not taken for another.
        self.fds = {name: os.dup2(thing if isinstance(thing, int) else thing.fileno(), 900 + at)
                    for at, (name, thing) in enumerate(descriptors.items())}
        words = [*prefix, "python3", "-B", f"{host.PAYLOAD}/guest/inside.py"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        pass_fds=list(self.fds.values()), cwd="/tmp")
        for fd in self.fds.values():
            os.close(fd)

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"the agent died or hangs at {request['way']}")
        return json.loads(line)

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
