"""What the tries came to: which reached routes are failures, and the tables.

Without a gate root must reach all that the kernel has, or the tries prove nothing; with
BPF LSM, and with the launcher, nothing may be reached but what is named here with the
reason.
"""

import os

import catalogue
from layers import ALL, HOOKS, LAUNCHER, LSM, NONE, USERS
from report import note, table

# What may be reached, and why. Objects that permissions open to the agent and that somebody
# outside reads: nothing that a gate of connections sees. A root caller's launcher leaves
# the IPC namespace.
FILES = {"named_pipe", "plain_file"}
OBJECTS = FILES | {"shared_memory", "message_queue", "posix_queue"}
# Files that somebody outside executes, where nothing but permissions guards them.
SPOOLS = {"cron_table", "at_job"}
# A few bits in what processes of one user may change of each other: an agent should have
# a user of its own.
SAME_USER = {"priority"}
# The same in resource limits, which the launcher's filter closes.
LIMITS = {"limits"}
# A key's name; the launcher's filter has no such calls.
KEYS = {"keyring"}
# An ordinary user's own files, for whoever would execute them.
OWN_FILES = {"set_user_id"}
# Somebody outside who comes into the session. No filter of system calls sees who it is.
VISITORS = {"passed_socket", "unix_served"}
ALLOWED = {
    (LSM, "root"): OBJECTS | KEYS | SPOOLS | OWN_FILES | SAME_USER | LIMITS | {"cron_file"},
    (LSM, "agent"): OBJECTS | KEYS | SPOOLS | OWN_FILES | SAME_USER | LIMITS,
    (LAUNCHER, "root"): FILES | VISITORS,
    (LAUNCHER, "agent"): OBJECTS | OWN_FILES | SAME_USER | VISITORS,
    (ALL, "root"): FILES,
    (ALL, "agent"): OBJECTS | OWN_FILES | SAME_USER,
}
# What older kernels can't give without BPF LSM, which the daemon then names as missing:
# unix addresses before 6.7 (layer `unix`), signals by Landlock before 6.12.
UNIX = {way.name for way in catalogue.SOCKETS if "unix" in way.request} | {"unix_rights", "dbus_hello", "journal_log"}
SIGNALS = {"signal_outside", "pidfd_signal", "file_owner_signal"}
# What a kernel may lack, and what it answers then.
MAY_BE_ABSENT = {way.name for way in catalogue.SOCKETS if way.name.startswith("family_")} | {
    "sctp", "dccp", "udplite", "udplite_connected", "ports", "uevent_helper", "alg_module"}
ABSENT = {"EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EAFNOSUPPORT", "ENOSYS", "ENODEV", "ENOENT", "ENXIO", "ENOTSUP"}
# Refused in silence: packets that `ingress` drops, if somebody did send them, and a signal by a
# descriptor's owner where Landlock holds it.
SILENT = {"tcp_served", "tcp_served_v6", "tcp_served_autobind", "udp_served"}
KNOCKED = {"timed out", "sent"}
SILENT_LAUNCHER = {"file_owner_signal"}


def is_refusal(answer):
    """Did the kernel say so, to the agent or to somebody who came to it? A late answer does not."""
    return answer["errno"] not in (None, "ETIMEDOUT") or answer.get("visitor") in ("EACCES", "EPERM")


def is_decided(layer, name, answer):
    """Is a try that reached nobody known to be refused, and not only slow?"""
    in_silence = name in SILENT and answer.get("visitor") in KNOCKED or \
        name in SILENT_LAUNCHER and layer in (LAUNCHER, ALL)
    return is_refusal(answer) or in_silence


def older():
    version = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return (UNIX if version < (6, 7) else set()) | (SIGNALS if version < (6, 12) else set())


def compare(layer, run, applies):
    """One line for a layer and user; each route that reaches and may not is a failure."""
    allowed = ALLOWED.get((layer, run.user))
    if layer == LAUNCHER:
        allowed = allowed | older()
    reaches = run.reaches & applies
    if allowed is not None:
        for name in sorted(reaches - allowed):
            note("routes", f"{layer}, {run.user}: {name}", "FAIL", f"reached: {run.results[name][2]}")
    for name in sorted(applies - run.reaches):
        answer = run.results[name][2]
        if not is_decided(layer, name, answer):
            note("routes", f"{layer}, {run.user}: {name}", "FAIL", f"neither reached nor refused: {answer}")
    broken = {name: result[2] for name, result in run.results.items()
              if result[2]["errno"] in ("BROKEN", "DIED")}
    for name, answer in broken.items():
        note("routes", f"{layer}, {run.user}: {name}", "FAIL", f"the try is broken: {answer}")
    note("routes", f"{layer}, {run.user}", "ok", f"reached {len(reaches)} of {len(applies)}")


def prove_real(run):
    """Without a gate root reaches everything that this kernel has."""
    absent = {name for name, (_, _, answer, _) in run.results.items()
              if name in MAY_BE_ABSENT - run.reaches and answer["errno"] in ABSENT}
    for name in sorted(absent):
        note("routes", f"{name}", "-", f"not in this kernel: {run.results[name][2]}")
    applies = set(run.results) - absent
    for name in sorted(applies - run.reaches):
        note("routes", f"without a gate: {name}", "FAIL", f"not reached: {run.results[name][2]}")
    return applies


def tables(runs, applies):
    text = ["| layers in force | root: reached of {0} | user: reached of {0} |".format(len(applies)), "|---|---|---|"]
    for layer in (NONE, HOOKS, LAUNCHER, LSM, ALL):
        counts = [len(runs[layer, user].reaches & applies) for user in USERS]
        text.append(f"| {layer} | {counts[0]} | {counts[1]} |")
    text.append("")
    text.append("What is still reached, with the launcher or with BPF LSM:")
    text.append("")
    for layer in (LAUNCHER, LSM, ALL):
        for user, title in zip(USERS, ("root", "user")):
            names = [way.what for way in catalogue.WAYS if way.name in runs[layer, user].reaches & applies]
            text.append(f"- {layer}, {title}: " + ("; ".join(names) or "nothing") + ".")
    table("\n".join(text) + "\n")
