"""What the BPF LSM programs cost a process that reads, writes and opens files: outside of
every session and inside one, attached and not.

Notes, and no limits: qemu without KVM is slow, so that only the ratios say something.
"""

import os
import statistics
import subprocess

import hidden
import host
import layers
from report import expect, note, table

ROUNDS = 5
CALLS, OPENS = 100_000, 5_000
FILE = "/run/cost"
WORK = {
    "read(2) or write(2) of one byte": (
        2 * CALLS, ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={CALLS}", "status=none"]),
    "opening and closing a file, by a shell": (
        OPENS, ["sh", "-c", f"i=0; while [ $i -lt {OPENS} ]; do : <{FILE}; i=$((i+1)); done"]),
}


def spent(words, cgroup):
    """Seconds of processor time of a command, in a cgroup if one is given."""
    move = (lambda: None) if cgroup is None else lambda: hidden.enter(cgroup)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=move)
    _, status, usage = os.wait4(process.pid, 0)
    expect(status == 0, f"{words}: {status}")
    return usage.ru_utime + usage.ru_stime


class InTurns:
    """Rounds without the programs and with them, so that a busy host disturbs both."""

    def __init__(self, lsm, places):
        self.lsm, self.places = lsm, places
        self.seconds = {(work, place, attached): []
                        for work in WORK for place in places for attached in (False, True)}

    def round(self):
        self._measure(False)
        links = [self.lsm.attach(hook) for hook in self.lsm.programs]
        try:
            self._measure(True)
        finally:
            for link in links:
                os.close(link)
        host.until("their end", lambda: '"lsm' not in host.run("bpftool", "-j", "link", "show"))

    def _measure(self, attached):
        for work, (_, words) in WORK.items():
            for place, cgroup in self.places.items():
                self.seconds[work, place, attached].append(spent(words, cgroup))

    def result(self, work, place):
        """Nanoseconds without and with, and the median of the rounds' ratios."""
        without, attached = self.seconds[work, place, False], self.seconds[work, place, True]
        each = 1e9 / WORK[work][0]
        ratio = statistics.median(b / a for a, b in zip(without, attached))
        return statistics.median(without) * each, statistics.median(attached) * each, ratio


def measured():
    open(FILE, "w").close()
    session = host.Session()
    bare = f"{session.cgroup()}/bare"
    os.mkdir(bare)
    lsm = layers.Lsm()
    verified(lsm)
    lsm.detach_all()
    turns = InTurns(lsm, {"outside": None, "inside": bare})
    for _ in range(ROUNDS):
        turns.round()
    lsm.close()
    os.rmdir(bare)
    session.close()
    os.unlink(FILE)
    layers.restart()
    tell(turns)


def tell(turns):
    lines = ["| each call, in ns | outside: without | with | ratio | inside: without | with | ratio |",
             "|---|---|---|---|---|---|---|"]
    for work in WORK:
        cells = [work]
        for place in turns.places:
            without, attached, ratio = turns.result(work, place)
            cells += [f"{without:.0f}", f"{attached:.0f}", f"{ratio:.2f}"]
            note("cost", f"{work}, {place}", "ok", f"{without:.0f} ns without, {attached:.0f} ns with: {ratio:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    table("What the BPF LSM programs cost a process outside of every session and inside one: "
          f"processor time, median of {ROUNDS} rounds (qemu without KVM: only the ratios say "
          "something).\n\n" + "\n".join(lines) + "\n")


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
