"""What the BPF LSM programs cost a process that reads, writes and opens files: outside of
every session and inside one, attached and not.

Notes, and no limits: qemu without KVM is slow, so that only the ratios say something.
"""

import os
import statistics
import subprocess
import time

import hidden
import host
import layers
from report import note, table

ROUNDS = 7
CALLS, OPENS = 200_000, 10_000
FILE = "/run/cost"
WORK = {
    "read(2) or write(2) of one byte": (
        2 * CALLS, ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={CALLS}", "status=none"]),
    "opening and closing a file, by a shell": (
        OPENS, ["sh", "-c", f"i=0; while [ $i -lt {OPENS} ]; do : <{FILE}; i=$((i+1)); done"]),
}


def timed(words, cgroup):
    """Seconds of a command, in a cgroup if one is given."""
    move = (lambda: None) if cgroup is None else lambda: hidden.enter(cgroup)
    began = time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, preexec_fn=move)
    return time.perf_counter() - began


def medians(places):
    """Nanoseconds for each work and place; the places take turns."""
    found = {}
    for work, (count, words) in WORK.items():
        rounds = {place: [] for place in places}
        for _ in range(ROUNDS):
            for place, cgroup in places.items():
                rounds[place].append(timed(words, cgroup))
        for place, seconds in rounds.items():
            found[work, place] = statistics.median(seconds) / count * 1e9
    return found


def measured():
    open(FILE, "w").close()
    session = host.Session()
    bare = f"{session.cgroup()}/bare"
    os.mkdir(bare)
    places = {"outside": None, "inside": bare}
    attached = medians(places)
    lsm = layers.Lsm()
    verified(lsm)
    lsm.detach_all()
    # The kernel takes the programs away when the last reader is done.
    lsm.close()
    detached = medians(places)
    os.rmdir(bare)
    session.close()
    os.unlink(FILE)
    layers.restart()
    lines = ["| each call, in ns | outside: without | with | ratio | inside: without | with | ratio |",
             "|---|---|---|---|---|---|---|"]
    for work in WORK:
        cells = [work]
        for place in places:
            before, after = detached[work, place], attached[work, place]
            cells += [f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}"]
            note("cost", f"{work}, {place}", "ok", f"{before:.0f} ns without, {after:.0f} ns with: "
                 f"{after / before:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    table("What the BPF LSM programs cost a process outside of every session and inside one "
          f"(median of {ROUNDS}; slow as the machine is, only the ratios say something):\n\n"
          + "\n".join(lines) + "\n")


def verified(lsm):
    """How long the verifier looked at the programs, as instructions."""
    counts = {}
    for hook, descriptor in lsm.programs.items():
        with open(f"/proc/self/fdinfo/{descriptor}") as file:
            for line in file:
                if line.startswith("verified_insns:"):
                    counts[hook] = int(line.split()[1])
    largest = sorted(counts, key=counts.get, reverse=True)[:3]
    note("cost", "instructions that the verifier looked at", "ok" if counts else "FAIL",
         f"{sum(counts.values())} in {len(counts)} programs; the most: "
         + ", ".join(f"{hook} {counts[hook]}" for hook in largest))
