"""Runs in a session: tries the ways it is asked for, one JSON line each, and answers.

Each way gets a child of its own and a few seconds, so that one that crashes, hangs or has
given something up for good disturbs no other.
"""

import errno
import importlib
import json
import os
import select
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
LIMIT = 5


def attempt(request):
    module = importlib.import_module(request["module"])
    try:
        said = getattr(module, request["way"])(request)
        return {"errno": None, "said": said}
    except TimeoutError:
        return {"errno": "ETIMEDOUT"}
    except OSError as error:
        return {"errno": errno.errorcode.get(error.errno, "EPERM"), "said": error.strerror}
    except BaseException as error:
        return {"errno": "BROKEN", "said": f"{type(error).__name__}: {error}"}


def in_child(request):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        answer = attempt(request)
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], LIMIT)
    text = os.read(read, 65536) if ready else b""
    os.close(read)
    try:
        os.kill(child, signal.SIGKILL)
    except OSError:
        pass  # it became somebody whom we may not kill
    _, status = os.waitpid(child, 0)
    if text:
        return json.loads(text)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
        # By the launcher's seccomp filter.
        return {"errno": "SIGSYS"}
    return {"errno": "ETIMEDOUT" if not ready else "DIED"}


# Loaded once, before the children.
for name in ("escape", "ways.sockets", "ways.processes", "ways.kernel"):
    importlib.import_module(name)
for line in sys.stdin:
    print(json.dumps(in_child(json.loads(line))), flush=True)
