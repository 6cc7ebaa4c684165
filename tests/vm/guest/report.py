"""What the guest found: one line for each check, as xtask's vm_test/report.rs reads it."""

import time

OUT = "/out"
_start = time.monotonic()
_failed = 0


def note(part, name, verdict, detail=""):
    """Records a verdict: "ok", "FAIL" or "-" (does not apply here)."""
    global _failed
    _failed += verdict == "FAIL"
    detail = " ".join(str(detail).split())
    with open(f"{OUT}/results.tsv", "a") as results:
        results.write("\t".join([part, name, verdict, detail]) + "\n")
    print(f"[{time.monotonic() - _start:6.1f}] {verdict:4} {part}: {name} {detail[:160]}", flush=True)


def say(text):
    print(f"[{time.monotonic() - _start:6.1f}] {text}", flush=True)


def table(text):
    """Adds to the section of docs/gate.md."""
    with open(f"{OUT}/gate.md", "a") as page:
        page.write(text + "\n")


class Part:
    """Runs checks of one part; an exception is a failure of its check, not of the rest."""

    def __init__(self, name):
        self.name = name

    def check(self, name):
        def run(function):
            try:
                detail = function()
            except Exception as error:  # whatever it is, it is the check's result
                note(self.name, name, "FAIL", f"{type(error).__name__}: {error}")
            else:
                note(self.name, name, "ok", detail or "")
            return function

        return run


def expect(condition, text):
    if not condition:
        raise AssertionError(text)
