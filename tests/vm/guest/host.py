"""Helpers: commands, the service, the database, agents."""

import json
import os
import subprocess
import time

PAYLOAD = os.getcwd()
AUDIT = "/var/log/portcullis/audit.jsonl"
ENFORCED = "/sys/fs/cgroup/portcullis"


def run(*words, timeout=60, check=True, **options):
    """Runs a command; its output (both streams) unless it fails."""
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        text=True, timeout=timeout, **options,
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout.strip()


def code(*words, timeout=60):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, timeout=timeout)
    return done.returncode, done.stdout.strip()


def until(what, condition, limit=30):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {limit} s")


def database():
    """A PostgreSQL server with the shop, that wants a password."""
    with open("/etc/postgresql/15/main/pg_hba.conf", "w") as hba:
        hba.write("local all all trust\nhost all all all scram-sha-256\n")
    # Masked in the image, so that machines that don't need it boot faster.
    run("pg_ctlcluster", "15", "main", "start", timeout=120)
    psql = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "psql", "-qX"]
    run(*psql, "-c", "CREATE DATABASE shop", cwd="/")
    run(*psql, "-d", "shop", "-v", "agent_password=s3cret", "-f", f"{PAYLOAD}/guest/shop.sql", cwd="/")


def secret():
    os.makedirs("/etc/portcullis/secrets", mode=0o700, exist_ok=True)
    path = "/etc/portcullis/secrets/shop"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("s3cret")


def main_pid():
    return int(run("systemctl", "show", "-P", "MainPID", "portcullisd"))


def restarts(how):
    """Sets the unit's Restart= until the next boot."""
    directory = "/run/systemd/system/portcullisd.service.d"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/restart.conf", "w") as file:
        file.write(f"[Service]\nRestart={how}\n")
    run("systemctl", "daemon-reload")


def is_active():
    return run("systemctl", "is-active", "portcullisd", check=False) == "active"


def records(event=None):
    try:
        lines = open(AUDIT).read().splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if line]
    return [record for record in found if event in (None, record["event"])]


class Session:
    """An agent session with a shell in it that runs one command line after the other."""

    def __init__(self, *prefix):
        self.process = subprocess.Popen(
            [*prefix, "portcullis", "run", "--as", "analyst", "--", "sh"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.run("true")

    def run(self, line, timeout=30):
        """Exit code and output of a command line."""
        mark = "end-of-command"
        self.process.stdin.write(f"{line} </dev/null\necho {mark} $?\n")
        self.process.stdin.flush()
        output, end = [], time.monotonic() + timeout
        while time.monotonic() < end:
            text = self.process.stdout.readline()
            if text.startswith(mark):
                return int(text.split()[1]), "".join(output).strip()
            if not text:
                raise RuntimeError(f"the session ended: {''.join(output)}")
            output.append(text)
        raise TimeoutError(line)

    def cgroup(self):
        line = open(f"/proc/{self.process.pid}/cgroup").read().strip()
        return "/sys/fs/cgroup" + line.removeprefix("0::")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
