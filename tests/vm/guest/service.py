"""The daemon as a systemd service: installed, in force, killed, restarted, removed."""

import os
import signal
import subprocess
import time

import host
from report import Part, expect, say

BOUND = """version: 1
roles:
  etl: {when: {cgroup: '/agents.slice/etl-*.service'}}
rules:
  - {id: read-etl, role: etl, allow: [sql.select], on: ['shop/public.orders']}
"""
# Exit codes of systemd's child: USER, CGROUP.
NOT_STARTED = (217, 219)
PSQL = "PGCONNECT_TIMEOUT=10 psql -qAtX -h 127.0.0.1 -d shop -c"


def refused_kernel():
    """On a kernel that is too old the daemon says so and does not start."""
    part = Part("refusal")

    @part.check("portcullisd refuses to start and says why")
    def _():
        os.makedirs("/etc/portcullis/policies", exist_ok=True)
        os.makedirs("/var/log/portcullis", exist_ok=True)
        host.run("install", "-m", "644", "policies/shop.yaml", "/etc/portcullis/policies/")
        code, text = host.code("bin/portcullisd")
        expect(code == 1, f"exit code {code}: {text}")
        expect("6.1" in text, f"it does not name the kernel that is needed: {text}")
        expect(len(text.splitlines()) == 1, f"more than one line: {text}")
        return text

    @part.check("nothing is left attached or pinned")
    def _():
        expect(not os.path.exists("/sys/fs/bpf/portcullis/links/connect4"), "a link is pinned")
        attached = host.run("bpftool", "cgroup", "tree", check=False)
        expect("connect4" not in attached, attached)


def installed():
    part = Part("service")

    @part.check("provision.sh installs and starts it")
    def _():
        host.secret()
        return host.run("sh", "provision.sh", host.PAYLOAD, timeout=120)

    if not host.is_active():
        say(host.run("journalctl", "-u", "portcullisd", "--no-pager", "-n", "60", check=False))
        return False

    @part.check("systemctl status shows it as ready")
    def _():
        text = host.run("systemctl", "status", "--no-pager", "portcullisd")
        expect("active (running)" in text, text)

    @part.check("portcullis status: the gate is in force")
    def _():
        return host.run("portcullis", "status")

    return True


def in_force():
    part = Part("service")

    @part.check("psql reaches the database without a password, through the gate")
    def _():
        code, text = host.code("portcullis", "run", "--as", "analyst", "--", "sh", "-c",
                               f"{PSQL} 'select count(*) from orders'")
        expect((code, text) == (0, "300"), f"{code}: {text}")

    @part.check("a table that is not allowed is refused with 42501")
    def _():
        code, text = host.code("portcullis", "run", "--as", "analyst", "--", "sh", "-c",
                               f"{PSQL} '\\set VERBOSITY verbose' -c 'select * from hr.pay'")
        expect(code != 0 and "42501" in text, f"{code}: {text}")

    @part.check("the decision is in journald, by its field")
    def _():
        def found():
            return host.run("journalctl", "--no-pager", "-o", "cat", "PORTCULLIS_EVENT=decision",
                            "PORTCULLIS_PRINCIPAL=analyst", check=False)
        text = host.until("the journal's copy", found, 15)
        expect("hr.pay" in text, text)

    @part.check("an unknown destination is refused at once and recorded")
    def _():
        began = time.monotonic()
        code, text = host.code("portcullis", "run", "--as", "analyst", "--", "sh", "-c",
                               "PGCONNECT_TIMEOUT=10 psql -h 127.0.0.1 -p 5999 -c 'select 1'")
        took = time.monotonic() - began
        expect(code != 0 and "Connection refused" in text, f"{code}: {text}")
        host.until("a gate_refused record", lambda: any(
            "5999" in str(record.get("destination")) for record in host.records("gate_refused")))
        return f"{took:.1f} s"

    @part.check("SIGHUP by systemctl reload takes the policy anew")
    def _():
        before = len(host.records("policy_loaded"))
        host.run("systemctl", "reload", "portcullisd")
        host.until("a policy_loaded record", lambda: len(host.records("policy_loaded")) > before)


def dead_and_back():
    part = Part("service")
    session = host.Session()
    query = f"{PSQL} 'select 1'"

    @part.check("a session works before the crash")
    def _():
        code, text = session.run(query)
        expect((code, text) == (0, "1"), f"{code}: {text}")

    @part.check("kill -9: the session is shut, at once")
    def _():
        # systemd would have it back in a second; the crash is looked at without that.
        host.restarts("no")
        os.kill(host.main_pid(), signal.SIGKILL)
        host.until("its end", lambda: not host.is_active())
        for _ in range(3):
            began = time.monotonic()
            code, text = session.run(query)
            expect(code != 0 and "Connection refused" in text, f"{code}: {text}")
            expect(time.monotonic() - began < 5, "it hung")
        links = os.listdir("/sys/fs/bpf/portcullis/links")
        expect("connect4" in links, links)
        return f"{len(links)} links stay pinned"

    @part.check("systemd restarts it by itself, and it adopts the session")
    def _():
        host.restarts("always")
        host.run("systemctl", "reset-failed", "portcullisd", check=False)
        host.run("systemctl", "start", "portcullisd")
        os.kill(host.main_pid(), signal.SIGKILL)
        began = time.monotonic()
        host.until("systemd's restart", lambda: not host.is_active(), 10)
        # A start takes 10 to 20 s in a machine without KVM: the verifier reads every program.
        host.until("systemd's restart", host.is_active, 90)
        took = time.monotonic() - began
        started = host.records("daemon_start")[-1]
        expect(started["adopted"] == "same" and started["sessions"] >= 1, started)
        code, text = session.run(query)
        expect((code, text) == (0, "1"), f"{code}: {text}")
        return f"back after {took:.1f} s"

    @part.check("systemctl stop: shut as well; start: open to the policy again")
    def _():
        host.run("systemctl", "stop", "portcullisd")
        code, text = session.run(query)
        expect(code != 0 and "Connection refused" in text, f"{code}: {text}")
        host.run("systemctl", "start", "portcullisd")
        code, text = session.run(query)
        expect((code, text) == (0, "1"), f"{code}: {text}")

    session.close()


def managed():
    """Agents that a service manager starts."""
    part = Part("service")
    unit = ["systemd-run", "--quiet", "-p", "Type=exec"]
    agent = ["portcullis", "run", "--as", "analyst", "--", "sh", "-c"]

    @part.check("systemd-run --wait --pipe portcullis run: the query, the output, the exit code")
    def _():
        code, text = host.code(*unit, "--wait", "--pipe", *agent,
                               f"{PSQL} 'select count(*) from orders'; exit 7")
        expect((code, text) == (7, "300"), f"{code}: {text}")

    @part.check("systemctl stop ends such an agent and its session")
    def _():
        host.run(*unit, "--unit=stopped", *agent, "echo $$$$ >/tmp/stopped; exec sleep 1000")  # the manager halves them
        pid = host.until("the agent", lambda: os.path.exists("/tmp/stopped")
                         and open("/tmp/stopped").read().strip())
        cgroup = open(f"/proc/{pid}/cgroup").read().strip().removeprefix("0::")
        expect(cgroup.startswith("/portcullis/"), cgroup)
        host.run("systemctl", "stop", "stopped")
        expect(not os.path.exists(f"/proc/{pid}"), "it lives")
        host.until("the end of its cgroup", lambda: not os.path.exists(f"/sys/fs/cgroup{cgroup}"))


def bound():
    """Units below an enforced slice, bound by their path."""
    part = Part("service")
    policy = "/etc/portcullis/policies/etl.yaml"
    with open(policy, "w") as file:
        file.write(BOUND)
    enforce("portcullis", "agents.slice")
    # Nothing passes before the new cgroup is seen.
    patient = f"for i in $(seq 100); do {PSQL} 'select count(*) from orders' && exit 7; sleep 0.1; done"

    @part.check("a unit below the enforced slice is bound by its path")
    def _():
        code, text = below_slice("etl-1", "sh", "-c", patient + " 2>/dev/null")
        expect(code == 7 and text.splitlines()[-1] == "300", f"{code}: {text}")
        started = host.records("session_start")[-1]
        expect(started["proof"] == "cgroup", started)
        return started["cgroup"]

    @part.check("a unit there that nothing binds reaches nothing")
    def _():
        code, text = below_slice("other-1", "sh", "-c", f"{PSQL} 'select 1'")
        # The socket is of no session: BPF LSM refuses it before connect4 is asked.
        expect(code != 0 and "Permission denied" in text, f"{code}: {text}")

    @part.check("root in such a unit does not read the credential")
    def _():
        code, text = below_slice("etl-2", "cat", "/etc/portcullis/secrets/shop")
        expect(code != 0 and "Permission denied" in text, f"{code}: {text}")

    @part.check("such a unit becomes another user by setpriv")
    def _():
        code, text = below_slice("etl-3", "setpriv", "--reuid=agent", "--regid=agent",
                               "--clear-groups", "--no-new-privs", "id", "-un")
        expect((code, text) == (0, "agent"), f"{code}: {text}")

    @part.check("no mounts of its own: systemd sets them up inside, where BPF LSM refuses them")
    def _():
        found = []
        for setting in ("PrivateTmp=yes", "ProtectSystem=strict", "PrivateDevices=yes", "RootDirectory=/srv"):
            code, text = below_slice("etl-4", "-p", setting, "cat", "/proc/self/mountinfo")
            # Without `shared:` it would be a mount namespace of its own.
            expect(code != 0 or "shared:" in text, f"{setting}: {text}")
            found.append(f"{setting}: {f'not started ({code})' if code else 'ignored'}")
        return "; ".join(found)

    os.unlink(policy)
    enforce("agents.slice", "portcullis")


def below_slice(name, *words):
    """Exit code and output of a unit in the slice. systemd's child may be in the unit's cgroup
    before it has set itself up; what it then does is refused and it gives up, so that the unit
    does not start: a known gap (docs/sessions.md), which is not what is looked at here."""
    for _ in range(20):
        code, text = host.code("systemd-run", "--quiet", "--wait", "--pipe", "-p", "Type=exec",
                               "--slice=agents.slice", f"--unit={name}", *words)
        if code not in NOT_STARTED:
            break
        host.run("systemctl", "reset-failed", f"{name}.service", check=False)
    return code, text


def enforce(before, after):
    """Puts the gate on another cgroup."""
    host.run("systemctl", "stop", "portcullisd")
    host.run("portcullisd", "--release")
    host.run("sed", "-i", f"s/^  cgroup: {before}$/  cgroup: {after}/", "/etc/portcullis/portcullisd.yaml")
    host.run("systemctl", "start", "portcullisd")
    status = host.run("portcullis", "status")
    expect(f"/sys/fs/cgroup/{after}:" in status, status)


def sandbox():
    part = Part("service")

    @part.check("systemd's own rating of the unit's sandbox")
    def _():
        text = host.run("systemd-analyze", "security", "--no-pager", "portcullisd", check=False)
        return text.splitlines()[-1] if text else "?"

    @part.check("the memory of the idle daemon")
    def _():
        status = open(f"/proc/{host.main_pid()}/status").read()
        return next(line for line in status.splitlines() if line.startswith("VmRSS"))

    @part.check("an ordinary user may not start a session")
    def _():
        code, text = host.code("setpriv", "--reuid=agent", "--regid=agent", "--clear-groups",
                               "portcullis", "run", "--as", "analyst", "--", "true")
        expect(code == 125, f"{code}: {text}")


def released():
    part = Part("service")

    @part.check("portcullisd --release takes everything away")
    def _():
        host.run("systemctl", "disable", "--now", "portcullisd")
        host.run("portcullisd", "--release")
        expect(not os.path.exists("/sys/fs/bpf/portcullis"), "pins are left")
        expect(not os.path.exists(host.ENFORCED), "the cgroup is left")
        tree = host.run("bpftool", "cgroup", "tree")
        expect("connect4" not in tree, tree)
        # Freed by the kernel's workers, a little later.
        host.until("the end of our programs", lambda: "connect4" not in subprocess.run(
            ["bpftool", "prog", "show"], capture_output=True, text=True).stdout)
