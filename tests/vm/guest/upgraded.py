"""A daemon that first uses a state directory while agents live, as after an upgrade. A root
agent that no launcher started puts an authority of its own there before, or waits for the
daemon's to appear.

Seen to fail with the authority opened before the kernel programs were told what to hide: the
agent's was taken, and the daemon's was read.
"""

import os
import shutil
import signal
import time

import hidden
import host
from report import Part, expect

STATE = "/var/lib/portcullis"
KEY = f"{STATE}/authority.pem"
GOOD = "/var/tmp/authority.pem"
READ = 7


def unused(bare, number):
    """Stops the daemon; the agent makes a state directory that the gate knows nothing of."""
    host.run("systemctl", "stop", "portcullisd")
    # Moved, as a removed one would leave its inode's number to the next.
    os.rename(STATE, f"{STATE}-{number}")
    code = hidden.attempt(bare, os.mkdir, STATE, 0o700)
    expect(code == 0, f"the agent's directory: {os.strerror(code)}")


def plant():
    shutil.copy(GOOD, KEY)
    os.chmod(KEY, 0o600)


def watch(bare):
    """An agent that reads the key as soon as it can, by its path or from the directory."""
    child = os.fork()
    if child:
        return child
    try:
        hidden.enter(bare)
        directory = os.open(STATE, os.O_RDONLY | os.O_DIRECTORY)
        while True:
            for path, where in ((KEY, None), ("authority.pem", directory)):
                try:
                    os.read(os.open(path, os.O_RDONLY, dir_fd=where), 9)
                    os._exit(READ)
                except OSError:
                    time.sleep(0.001)
    finally:
        os._exit(1)


def start():
    code, _ = host.code("systemctl", "start", "portcullisd", timeout=120)
    return code


def checks():
    part = Part("hidden")
    session = host.Session()
    bare = f"{session.cgroup()}/bare"
    os.mkdir(bare)
    shutil.copy(KEY, GOOD)
    host.restarts("no")

    @part.check("an authority that was there before its directory was hidden is refused, again and again")
    def _():
        unused(bare, 1)
        expect(hidden.attempt(bare, plant) == 0, "it is not planted")
        for _ in range(2):
            expect(start() != 0, "the daemon takes it")
        said = host.run("journalctl", "-u", "portcullisd", "--no-pager", "-n", "20")
        expect("authority.pem" in said and "before agents" in said, said)
        code, said = host.code("portcullis", "authority", "show")
        expect(code != 0, f"others take it: {said}")

    @part.check("the daemon's own is hidden from its first moment, and is not what an agent had")
    def _():
        unused(bare, 2)
        agent = watch(bare)
        expect(start() == 0, host.run("journalctl", "-u", "portcullisd", "--no-pager", "-n", "20"))
        os.kill(agent, signal.SIGKILL)
        status = os.waitpid(agent, 0)[1]
        expect(os.WIFSIGNALED(status), f"the agent ended: {os.waitstatus_to_exitcode(status)}")
        with open(KEY) as key, open(GOOD) as good:
            expect(key.read() != good.read(), "the old one")

    @part.check("such an authority is taken again by the next daemon")
    def _():
        host.run("systemctl", "stop", "portcullisd")
        expect(start() == 0, host.run("journalctl", "-u", "portcullisd", "--no-pager", "-n", "20"))

    @part.check("a planted one is not taken when the agents have ended, until somebody says so")
    def _():
        unused(bare, 3)
        expect(hidden.attempt(bare, plant) == 0, "it is not planted")
        expect(start() != 0, "the daemon takes it")
        host.until("the end of the agents", lambda: not open(f"{bare}/cgroup.procs").read())
        os.rmdir(bare)
        session.close()
        expect(start() != 0, "the daemon takes it as nobody is left")
        os.unlink(f"{STATE}/authority.pem.doubted")
        expect(start() == 0, host.run("journalctl", "-u", "portcullisd", "--no-pager", "-n", "20"))

    host.restarts("always")
    os.unlink(GOOD)
