"""The gate's and the daemon's own files, tried by a root agent that no launcher started: it
is moved into a cgroup below a session's. Each attempt is made outside too, on a twin.

Seen to fail: with the map HIDDEN left empty, all but those on bpffs, cgroupfs and /proc/1;
with the agents' directory not among what is kept, those on it.
"""

import errno
import itertools
import mmap
import os
import shutil
import socket
import struct
import sys

import host
from report import Part, expect

SECRET = "/etc/portcullis/secrets/shop"
POLICIES = "/etc/portcullis/policies"
PINS = "/sys/fs/bpf/portcullis"
AGENTS = "/run/portcullis-agents"
TWIN = "/var/tmp/twin"
TWIN_PINS = "/sys/fs/bpf/twin"
TWIN_CGROUP = "/sys/fs/cgroup/twin"
REFUSED = (errno.EPERM, errno.EACCES)


def attempt(cgroup, function, *arguments):
    """The errno of a function in a process of its own, in a cgroup if one is given; 0: done."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            if cgroup:
                enter(cgroup)
            function(*arguments)
            code = 0
        except OSError as error:
            code = error.errno
        except BaseException as error:
            print(f"{function.__name__}: {error!r}", file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def enter(cgroup):
    with open(f"{cgroup}/cgroup.procs", "w") as procs:
        procs.write("0")


def read(path):
    with open(path, "rb") as file:
        expect(file.read(), "nothing to read")


def append(path):
    with open(path, "ab") as file:
        file.write(b"#\n")


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def put_over(path, mine=f"{TWIN}/mine"):
    create(mine)
    try:
        os.rename(mine, path)
    finally:
        if os.path.exists(mine):
            os.unlink(mine)


def move(path):
    os.rename(path, f"{path}-moved")


def own_link(path):
    os.link(path, f"{TWIN}/own-link")


def link_into(path):
    create(f"{TWIN}/mine")
    try:
        os.link(f"{TWIN}/mine", path)
    finally:
        os.unlink(f"{TWIN}/mine")


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def set_acl(path):
    entries = [(1, 6, 0xFFFFFFFF), (4, 0, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", value)


def read_inherited(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    expect(os.read(descriptor, 9), "nothing to read")


def map_inherited(descriptor):
    expect(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)[:], "nothing to read")


def twins():
    """Harmless copies of everything, and the ways to the real ones that root made outside."""
    for name in ("policies", "secrets"):
        os.makedirs(f"{TWIN}/{name}")
    os.makedirs(f"{TWIN}/whole/below")
    shutil.copy(SECRET, f"{TWIN}/secrets/shop")
    shutil.copy(f"{POLICIES}/shop.yaml", f"{TWIN}/policies/shop.yaml")
    shutil.copy(host.AUDIT, f"{TWIN}/audit.jsonl")
    for name in ("program", "program2"):
        shutil.copy("/bin/true", f"{TWIN}/{name}")
    os.makedirs(f"{TWIN}/agents")
    bind(f"{TWIN}/agents/agent.sock")
    for name in ("authority.crt", "moves.crt"):
        shutil.copy(f"{AGENTS}/authority.crt", f"{TWIN}/agents/{name}")
    os.makedirs(f"{TWIN_PINS}/moves")
    for name in ("link", "lsm"):
        host.run("bpftool", "map", "create", f"{TWIN_PINS}/{name}", "type", "array", "key", "4",
                 "value", "4", "entries", "1", "name", "twin")
    os.makedirs(TWIN_CGROUP)
    os.setxattr(TWIN_CGROUP, "trusted.portcullis.session", b"x")
    os.link(SECRET, f"{TWIN}/hard-link")
    os.makedirs(f"{TWIN}/bind")
    host.run("mount", "--bind", "/etc/portcullis/secrets", f"{TWIN}/bind")


def clean():
    host.run("umount", f"{TWIN}/bind", check=False)
    shutil.rmtree(TWIN)
    host.run("rm", "-rf", TWIN_PINS)
    os.rmdir(TWIN_CGROUP)


def attempts(session):
    """What is tried: its name, the function, its arguments for the real one and the twin."""
    xattr = "trusted.portcullis.session"
    yield "unlink a pinned link", os.unlink, (f"{PINS}/links/connect4",), (f"{TWIN_PINS}/link",)
    yield "unlink an LSM pin", os.unlink, (f"{PINS}/lsm/capable",), (f"{TWIN_PINS}/lsm",)
    yield "rename the pins' directory", move, (PINS,), (f"{TWIN_PINS}/moves",)
    yield "mkdir in bpffs", os.mkdir, ("/sys/fs/bpf/more",), (f"{TWIN_PINS}/more",)
    yield "read a credential", read, (SECRET,), (SECRET,)
    yield "the same by a hard link", read, (f"{TWIN}/hard-link",), (f"{TWIN}/hard-link",)
    yield "the same by a bind mount", read, (f"{TWIN}/bind/shop",), (f"{TWIN}/bind/shop",)
    link = f"/proc/1/root{SECRET}"
    yield "the same by /proc/1/root", read, (link,), (link,)
    yield "list the secrets", os.listdir, (os.path.dirname(SECRET),), (os.path.dirname(SECRET),)
    yield "hard-link a credential", own_link, (SECRET,), (f"{TWIN}/secrets/shop",)
    yield "chmod a credential", os.chmod, (SECRET, 0o644), (f"{TWIN}/secrets/shop", 0o644)
    yield "chown a credential", os.chown, (SECRET, 1000, 0), (f"{TWIN}/secrets/shop", 1000, 0)
    yield "set an ACL on a credential", set_acl, (SECRET,), (f"{TWIN}/secrets/shop",)
    yield "chmod by the bind mount", os.chmod, (f"{TWIN}/bind/shop", 0o644), (
        f"{TWIN}/secrets/shop", 0o644)
    yield "rename a credential", move, (SECRET,), (f"{TWIN}/secrets/shop",)
    yield "write a policy", append, (f"{POLICIES}/shop.yaml",), (f"{TWIN}/policies/shop.yaml",)
    yield "create a policy", create, (f"{POLICIES}/new.yaml",), (f"{TWIN}/policies/new.yaml",)
    yield "symlink among policies", os.symlink, ("/x", f"{POLICIES}/x"), ("/x", f"{TWIN}/policies/x")
    yield "mkfifo among policies", os.mkfifo, (f"{POLICIES}/f",), (f"{TWIN}/policies/f",)
    yield "link a file among policies", link_into, (f"{POLICIES}/l",), (f"{TWIN}/policies/l",)
    yield "put a file over a policy", put_over, (f"{POLICIES}/shop.yaml",), (
        f"{TWIN}/policies/shop.yaml",)
    yield "unlink a policy", os.unlink, (f"{POLICIES}/shop.yaml",), (f"{TWIN}/policies/shop.yaml",)
    yield "rename /etc/portcullis", move, ("/etc/portcullis",), (f"{TWIN}/whole",)
    yield "rename what is above it", move, ("/etc",), (f"{TWIN}/policies",)
    yield "truncate the audit file", os.truncate, (host.AUDIT, 0), (f"{TWIN}/audit.jsonl", 0)
    yield "read the audit file", read, (host.AUDIT,), (host.AUDIT,)
    yield "create in the run directory", create, ("/run/portcullis/x",), (f"{TWIN}/secrets/x",)
    yield "unlink the daemon's program", os.unlink, ("/usr/bin/portcullisd",), (f"{TWIN}/program",)
    yield "put a file over it", put_over, ("/usr/bin/portcullisd",), (f"{TWIN}/program2",)
    yield "setxattr on the session", os.setxattr, (session, xattr, b"y"), (TWIN_CGROUP, xattr, b"y")
    yield "its user xattr", os.setxattr, (session, "user.x", b"y"), (TWIN_CGROUP, "user.x", b"y")
    yield "removexattr on the session", os.removexattr, (session, xattr), (TWIN_CGROUP, xattr)
    yield "chmod of the session's cgroup", os.chmod, (session, 0o777), (TWIN_CGROUP, 0o777)
    yield "mkdir in the session's cgroup", os.mkdir, (f"{session}/x",), (f"{TWIN_CGROUP}/x",)
    yield "rmdir in cgroupfs", os.rmdir, (f"{session}/empty",), (f"{TWIN_CGROUP}/x",)


def where_agents_come():
    """What every agent believes: the socket that it asks, the authority that it trusts. Whoever
    could put others there would be the gate for all of them."""
    twin = f"{TWIN}/agents"
    for name in ("agent.sock", "authority.crt"):
        real, other = f"{AGENTS}/{name}", f"{twin}/{name}"
        # From the same file system.
        yield f"put a file over {name}", put_over, (real, "/run/mine"), (other,)
        yield f"chmod {name}", os.chmod, (real, 0o644), (other, 0o644)
        yield f"rename {name}", move, (real,), (other,)
    certificate = f"{AGENTS}/authority.crt"
    yield "write authority.crt", append, (certificate,), (f"{twin}/moves.crt",)
    yield "truncate authority.crt", os.truncate, (certificate, 0), (f"{twin}/moves.crt", 0)
    yield "unlink authority.crt", os.unlink, (certificate,), (f"{twin}/moves.crt",)
    yield "unlink agent.sock", os.unlink, (f"{AGENTS}/agent.sock",), (f"{twin}/agent.sock-moved",)
    yield "bind a socket beside it", bind, (f"{AGENTS}/x.sock",), (f"{twin}/x.sock",)
    yield "create a file beside it", create, (f"{AGENTS}/x",), (f"{twin}/x",)
    yield "chmod the agents' directory", os.chmod, (AGENTS, 0o777), (twin, 0o777)
    yield "rename the agents' directory", move, (AGENTS,), (twin,)


def usual(path):
    """What an agent does with files all day."""
    os.mkdir(path)
    create(f"{path}/a")
    append(f"{path}/a")
    os.chmod(f"{path}/a", 0o600)
    os.truncate(f"{path}/a", 1)
    os.setxattr(f"{path}/a", "user.x", b"y")
    os.link(f"{path}/a", f"{path}/b")
    os.rename(f"{path}/a", f"{path}/c")
    os.symlink("c", f"{path}/d")
    read(f"{path}/d")
    read("/usr/bin/portcullisd")
    for name in ("b", "c", "d"):
        os.unlink(f"{path}/{name}")
    os.rmdir(path)


def checks():
    part = Part("hidden")
    session = host.Session()
    cgroup = session.cgroup()
    bare = f"{cgroup}/bare"
    os.mkdir(bare)
    os.mkdir(f"{cgroup}/empty")
    twins()

    for name, function, real, twin in itertools.chain(attempts(cgroup), where_agents_come()):
        @part.check(f"root in a bare cgroup: {name}")
        def _():
            inside = attempt(bare, function, *real)
            expect(inside in REFUSED, f"inside: {os.strerror(inside)}")
            outside = attempt(None, function, *twin)
            expect(outside == 0, f"outside: {os.strerror(outside)}")
            return errno.errorcode[inside]

    for function in (read_inherited, map_inherited):
        @part.check(f"root in a bare cgroup: a descriptor from before: {function.__name__}")
        def _():
            descriptor = os.open(SECRET, os.O_RDONLY)
            inside = attempt(bare, function, descriptor)
            outside = attempt(None, function, descriptor)
            os.close(descriptor)
            expect(inside in REFUSED and outside == 0, f"{inside}, outside {outside}")

    @part.check("root in a bare cgroup: asks the daemon who it is, and reads the authority")
    def _():
        code = attempt(bare, host.run, "portcullis", "whoami")
        expect(code == 0, f"whoami: {code}")
        code = attempt(bare, read, f"{AGENTS}/authority.crt")
        expect(code == 0, f"the authority: {os.strerror(code)}")

    @part.check("what an agent does with other files works, above and below a deep directory")
    def _():
        deep = TWIN + "/d" * 50
        os.makedirs(deep)
        for path in (f"{TWIN}/usual", f"{deep}/usual"):
            code = attempt(bare, usual, path)
            expect(code == 0, f"{path}: {code}")

    @part.check("the refusals are recorded")
    def _():
        host.until("records of lsm/file_open", lambda: any(
            "gate or its daemon" in record["reason"] and record["layer"].startswith("lsm/")
            for record in host.records("gate_refused")))

    reload_hides(part, bare)
    launcher(part)
    os.rmdir(f"{cgroup}/empty")
    host.until("the end of the attempts", lambda: not open(f"{bare}/cgroup.procs").read())
    os.rmdir(bare)
    session.close()
    clean()


def reload_hides(part, bare):
    lone, policy = "/srv/lone-secret", f"{POLICIES}/lone.yaml"

    @part.check("a credential is hidden when a policy names it, and not when none does")
    def _():
        with open(lone, "w") as file:
            file.write("x")
        os.chmod(lone, 0o600)
        expect(attempt(bare, read, lone) == 0, "refused before any policy names it")
        with open(policy, "w") as file:
            file.write("version: 1\nservices:\n  lone: {proto: postgres, at: ['127.0.0.1:1'], "
                       f"tls: disable, user: u, credential: 'file:{lone}'}}\n")
        host.until("its hiding", lambda: attempt(bare, read, lone) in REFUSED)
        os.unlink(policy)
        host.until("its end", lambda: attempt(bare, read, lone) == 0)
        os.unlink(lone)


def launcher(part):
    for user in ([], ["--user", "agent"]):
        @part.check(f"portcullis run {' '.join(user) or 'as root'} works, and reaches the database")
        def _():
            code, text = host.code("portcullis", "run", "--as", "analyst", *user, "--", "sh", "-c",
                                   "psql -qAtX -h 127.0.0.1 -d shop -c 'select 1'")
            expect((code, text) == (0, "1"), f"{code}: {text}")
