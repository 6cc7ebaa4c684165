"""What a process may do that was given a narrower session: no more than before it asked.

Any process of a session may ask, and need not be a launcher. Only one from outside of every
session is let be until it executes the agent's command, and only while it is in the session
that was made for it. Seen to fail with the kernel's exemption for whoever gets a session.
"""

import json
import os
import signal
import socket

import enter
import hidden
import host
from report import Part, expect
from ways import call, libc

AGENT_SOCKET = "/run/portcullis-agents/agent.sock"
ROOT_CGROUP = "/sys/fs/cgroup"
XATTR = "trusted.portcullis.session"


def narrow():
    """Asks for a narrower session as any program may, and reads the answer."""
    body = json.dumps({"roles": ["analyst"]})
    head = (f"POST /v1/self/sessions HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    answer = b""
    with socket.socket(socket.AF_UNIX) as way:
        way.settimeout(30)
        way.connect(AGENT_SOCKET)
        way.sendall((head + body).encode())
        while part := way.recv(65536):
            answer += part
    expect(b" 200 " in answer.splitlines()[0], f"no narrower session: {answer.decode()}")


def own_cgroup():
    with open("/proc/self/cgroup") as file:
        return ROOT_CGROUP + file.read().strip().removeprefix("0::")


def read_credential():
    hidden.read(hidden.SECRET)


def leave():
    hidden.enter(ROOT_CGROUP)


def rewrite():
    os.setxattr(own_cgroup(), XATTR, b"another")


def unlink_pin():
    os.unlink(f"{hidden.PINS}/links/getpeername6")


def mount():
    call(libc.mount(b"x", b"/mnt", b"tmpfs", 0, None), "mount")


def outside_socket(descriptor):
    """What somebody outside said, by a socket that was open before the session was."""
    expect(socket.socket(fileno=descriptor).recv(9) == b"something", "nothing came")


def narrowed(function, *arguments):
    try:
        narrow()
    except OSError as error:
        # Not to be taken for the refusal of what comes next.
        raise AssertionError(f"no narrower session: {error}") from error
    function(*arguments)


def launched(cgroup, function):
    """What a launcher may; then the same process elsewhere, as one that got its number."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            enter.ask()
            function()
            os.kill(os.getpid(), signal.SIGSTOP)
            function()
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    _, status = os.waitpid(child, os.WUNTRACED)
    expect(os.WIFSTOPPED(status), f"a launcher is refused: {status:#x}")
    with open(f"{cgroup}/cgroup.procs", "w") as procs:
        procs.write(str(child))
    os.kill(child, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def failed_start():
    """Where the gate can't listen: a network namespace without 127.0.0.1."""
    call(libc.unshare(0x40000000), "unshare")
    host.run("ip", "link", "set", "lo", "up")
    host.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    try:
        enter.ask()
    except (SystemExit, OSError):
        expect(own_cgroup().startswith(f"{host.ENFORCED}/"), "it was not moved")
        return read_credential()
    raise AssertionError("it has a session")


def checks():
    part = Part("narrower")
    session = host.Session()
    bare = f"{session.cgroup()}/bare"
    os.mkdir(bare)

    @part.check("any process of a session may ask for a narrower one, and reads the answer")
    def _():
        code = hidden.attempt(bare, narrow)
        expect(code == 0, os.strerror(code))

    for function in (read_credential, leave, rewrite, unlink_pin, mount):
        @part.check(f"root in a narrower session that it asked for: {function.__name__}")
        def _():
            code = hidden.attempt(bare, narrowed, function)
            expect(code in hidden.REFUSED, os.strerror(code))

    @part.check("root in a narrower session that it asked for: outside_socket")
    def _():
        ours, theirs = socket.socketpair()
        ours.send(b"something")
        code = hidden.attempt(bare, narrowed, outside_socket, theirs.detach())
        expect(code in hidden.REFUSED, os.strerror(code))

    @part.check("what a launcher may ends where it leaves its session's cgroup")
    def _():
        code = launched(bare, read_credential)
        expect(code in hidden.REFUSED, os.strerror(code))

    @part.check("a start that fails leaves a launcher nothing")
    def _():
        code = hidden.attempt(None, failed_start)
        expect(code in hidden.REFUSED, os.strerror(code))

    commands(part, session, bare)
    host.until("the end of the attempts", lambda: not open(f"{bare}/cgroup.procs").read())
    os.rmdir(bare)
    session.close()


def commands(part, session, bare):
    """`portcullis run --role`, of which each step must do without what a launcher may."""
    words = "portcullis run --role analyst -- sh -c"
    query = "PGCONNECT_TIMEOUT=10 psql -qAtX -h 127.0.0.1 -d shop -c 'select 1'"

    @part.check("portcullis run --role works in a session of the launcher")
    def _():
        code, text = session.run(f'{words} "{query}"')
        expect((code, text) == (0, "1"), f"{code}: {text}")

    for user in ("root", "agent"):
        @part.check(f"portcullis run --role works in a session without the launcher, as {user}")
        def _():
            code, text = host.code("python3", "-B", f"{host.PAYLOAD}/guest/enter.py", user,
                                   *words.split(), query)
            expect((code, text) == (0, "1"), f"{code}: {text}")

    @part.check("portcullis run --role leaves root no capability, also without the launcher")
    def _():
        code, text = host.code("python3", "-B", f"{host.PAYLOAD}/guest/enter.py", "root",
                               *words.split(), "grep CapEff /proc/self/status; cat " + hidden.SECRET)
        expect(code != 0 and "0000000000000000" in text and "s3cret" not in text, f"{code}: {text}")
