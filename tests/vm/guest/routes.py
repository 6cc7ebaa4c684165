"""Every way out, tried as root and as an ordinary user, layer by layer.

Root and the user try at the same time. `reached` is what somebody outside has seen, or the
host's changed state. Absent: what may be reached, which is in verdict.py.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import catalogue
import host
import layers
import proofs
import verdict
from layers import ALL, HOOKS, LAUNCHER, LSM, NONE, USERS
from outside import DEVICE, DIRECTORY, OWN4, SERVICES, SINK4, SINK6, VSOCK, Outside, Victim
from report import say

# How long an agent waits for somebody outside, in seconds. The same under every layer: who
# comes without a gate has as long with it.
PATIENCE = 3
# How long what was sent may take to be seen.
SETTLES = 5
# What a try may change and is put back.
CONTROLS = ("kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "net/ipv4/ip_forward")

POLICY = """version: 1
roles: {{analyst: {{}}}}
services:
  sink: {{proto: postgres, at: [{at}], tls: disable, user: u, credential: 'file:/etc/portcullis/secrets/shop'}}
rules:
  - {{id: r, role: analyst, allow: [sql.select], on: [sink]}}
"""


def configure():
    """A policy with the sink as a service, and a group that may start sessions."""
    at = [f"'{SINK4}:{port}', '[{SINK6}]:{port}'" for port in SERVICES]
    for name in os.listdir("/etc/portcullis/policies"):
        os.unlink(f"/etc/portcullis/policies/{name}")
    with open("/etc/portcullis/policies/routes.yaml", "w") as file:
        file.write(POLICY.format(at=", ".join(at)))
    host.run("groupadd", "-f", "portcullis")
    with open("/etc/portcullis/portcullisd.yaml", "a") as file:
        file.write("\ncontrol: {group: portcullis}\n")
    layers.restart()


# Two runs go on at once; the host's state is one.
host_state = threading.Lock()


class Run:
    """All ways, under one layer, as one user. Its ports and tokens are its own."""

    def __init__(self, number, outside, layer, user, prefix):
        self.number, self.outside, self.layer, self.user = number, outside, layer, user
        self.word = f"word{number}."
        self.tcp = [outside.server() for _ in range(2)]
        self.victim = Victim(user, self.word)
        self.descriptors, self.pair_in_far = outside.descriptors()
        self.agent = layers.Agent(prefix(user), self.descriptors)
        self.results = {}

    def request(self, way, port):
        outside = self.outside
        return {
            "v4": SINK4, "v6": SINK6, "own4": OWN4, "device": DEVICE, "port": port,
            "token": f"token-{self.number}-{port}", "broadcast": "198.51.100.255", "run": self.number,
            "group4": "239.198.51.100", "group6": "ff15::db8:1", "spoofed": "198.51.100.77",
            "join4": f"239.198.77.{self.number}", "join6": f"ff15::77:{self.number:x}",
            "local": self.tcp[way.name == "tcp_own_address"], "local_udp": outside.udp.getsockname()[1],
            "vsock": VSOCK, "netlink": 77_777, "fds": self.agent.fds, "fifo": outside.fifo, "file": outside.file,
            "key": outside.key, "mqueue": "routes", "ko": outside.module, "sibling": "no-gate",
            "meet": f"/tmp/meet-{self.number}-{port}", "dgram": f"{DIRECTORY}/dgram",
            "patience": PATIENCE, "link": outside.link, **self.victim.request, **way.request,
            "service": SERVICES[self.number * 4 + way.request.get("service", 0)],
        }

    def all(self):
        began = time.monotonic()
        for at, way in enumerate(catalogue.WAYS):
            self.one(way, 10_000 + 200 * self.number + at)
        self.settle()
        self.agent.end()
        self.victim.end()
        say(f"{self.layer}, {self.user}: {len(self.results)} ways in {time.monotonic() - began:.1f} s")
        return self

    def one(self, way, port):
        """Tries a way; whether the host's state shows it is looked at once."""
        if not callable(way.seen):
            return self._try(way, port)
        with host_state:
            answer = self._try(way, port)
            undo(way, self.results[way.name][1])
        return answer

    def _try(self, way, port):
        request = self.request(way, port)
        # The agent must not learn by itself what only somebody outside has.
        if way.name == "inherited_unix_recv":
            self.pair_in_far.send(request["token"].encode())
        answer = self._visited(request) if "call" in request else self.agent.ask(request)
        state = callable(way.seen) and answer["errno"] is None and self.state(way, request)
        self.results[way.name] = (way, request, answer, state)
        return answer

    def _visited(self, request):
        """Asks while somebody outside comes; what he came to is in the answer."""
        done = threading.Event()
        own = {"own": self.descriptors["udp"].fileno()}
        with ThreadPoolExecutor(1) as pool:
            visitor = pool.submit(self.outside.call_in, request | own, done.is_set)
            try:
                answer = self.agent.ask(request)
            finally:
                done.set()
            return answer | {"visitor": visitor.result()}

    def state(self, way, request):
        more = {"outside": self.outside, "word": self.word, "user": self.user, "own_fds": self.descriptors}
        try:
            if "signal" in way.name:
                return host.until("the signal", lambda: way.seen(request | more), SETTLES)
            return bool(way.seen(request | more))
        except (OSError, TimeoutError):
            return False

    def settle(self):
        """What is on its way arrives: no call has refused it."""
        end = time.monotonic() + SETTLES
        while time.monotonic() < end and not all(self.reached(name) for name in self.unrefused()):
            time.sleep(0.1)

    def unrefused(self):
        """The names of the tries that nothing has answered with a refusal."""
        return [name for name, (_, _, answer, _) in self.results.items() if not verdict.is_refusal(answer)]

    def reached(self, name):
        way, request, answer, state = self.results[name]
        saw, port = self.outside.saw, request["port"]
        if callable(way.seen):
            return state
        return {
            "token": lambda: saw(request["token"]),
            "port": lambda: self.outside.saw_port(port),
            "service": lambda: self.outside.saw_port(request["service"]),
            "connected": lambda: saw(f"connected local port {request['local']}."),
            "group4": lambda: saw(bytes(int(part) for part in request["join4"].split("."))),
            "group6": lambda: saw(b"\xff\x15" + bytes(10) + b"\x00\x77" + self.number.to_bytes(2, "big")),
            "ok": lambda: answer["errno"] is None,
            "told": lambda: answer.get("said") == request["token"],
        }[way.seen]()

    def conclude(self):
        """The names of what is reached."""
        self.reaches = {name for name in self.results if self.reached(name)}
        return self


def undo(way, request):
    """Puts back what a try has changed, before the next."""
    run = request["run"]
    for words in {
        "module": [("modprobe", "-r", "dummy")], "alg_module": [("modprobe", "-r", "wp512")],
        "filesystem_module": [("modprobe", "-r", "overlay")],
        "route": [("ip", "route", "del", f"203.0.113.{run}")],
        "address": [("ip", "address", "del", f"203.0.113.{100 + run}/32", "dev", "lo")],
        "traffic_control": [("tc", "qdisc", "del", "dev", DEVICE, "root")],
        "cron_table": [("sh", "-c", "rm -f /var/spool/cron/crontabs/*")],
        "at_job": [("sh", "-c", "rm -f /var/spool/cron/atjobs/*")],
        "cron_file": [("rm", "-f", "/etc/cron.d/way")],
        "kprobe": [("sh", "-c", "echo >/sys/kernel/tracing/kprobe_events")],
    }.get(way.name, ()):
        host.code(*words)
    if way.name in ("core_pattern", "modprobe_path", "forwarding", "host_name"):
        for path, text in saved.items():
            with open(path, "w") as file:
                file.write(text)


saved = {}


def tried():
    """The part `routes`; the daemon is installed and in force."""
    configure()
    outside = Outside()
    for name in CONTROLS:
        with open(f"/proc/sys/{name}") as file:
            saved[f"/proc/sys/{name}"] = file.read()
    os.mkdir(layers.SIBLING)
    runs, number = {}, 1

    def run(layer, prefix):
        nonlocal number
        pair = [Run(number + at, outside, layer, user, prefix) for at, user in enumerate(USERS)]
        number += len(pair)
        with ThreadPoolExecutor(len(pair)) as pool:
            for done in pool.map(Run.all, pair):
                runs[layer, done.user] = done.conclude()

    run(LSM, layers.bare)
    run(ALL, layers.launched)
    lsm = layers.Lsm()
    lsm.detach_all()
    run(LAUNCHER, layers.launched)
    run(HOOKS, layers.bare)
    # One that is still attached.
    outside.find_link("getpeername4")
    run(NONE, layers.without_gate)
    applies = verdict.prove_real(runs[NONE, "root"])
    for (layer, _), done in runs.items():
        verdict.compare(layer, done, applies)
    proofs.each_program(lsm, outside, runs, number, Run)
    verdict.tables(runs, applies)
    layers.restart()
