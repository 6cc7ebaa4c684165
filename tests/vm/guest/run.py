"""Runs in the machine, as root, from the payload's directory: every part, one after the other.

`fit` says whether the daemon must work on this kernel, `only` (if there) which parts to run.
"""

import os
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cost
import hidden
import host
import narrower
import routes
import service
import upgraded
from report import note, say


def read(name, default):
    try:
        return open(name).read().strip()
    except FileNotFoundError:
        return default


def main():
    say(f"Linux {os.uname().release}, LSM: {read('/sys/kernel/security/lsm', '?')}")
    if read("fit", "yes") == "no":
        service.refused_kernel()
        return
    only = read("only", "all")
    if only != "routes":
        host.database()
    if not service.installed():
        return
    if only in ("all", "service"):
        service.in_force()
        service.dead_and_back()
        service.managed()
        service.bound()
        service.sandbox()
    if only in ("all", "hidden"):
        hidden.checks()
        upgraded.checks()
    if only in ("all", "narrower"):
        narrower.checks()
    if only in ("all", "cost", "routes"):
        cost.measured()
    if only in ("all", "routes"):
        routes.tried()
    service.released()


def keep():
    """What one looks at when something failed."""
    for name, words in (
        ("journal", ["journalctl", "-b", "--no-pager", "-o", "short-monotonic"]),
        ("audit.jsonl", ["cat", host.AUDIT]),
    ):
        with open(f"/out/{name}", "w") as file:
            file.write(host.run(*words, check=False))


try:
    try:
        main()
    finally:
        keep()
except Exception as error:
    traceback.print_exc()
    note("run", "the run reaches its end", "FAIL", error)
    sys.exit(1)
