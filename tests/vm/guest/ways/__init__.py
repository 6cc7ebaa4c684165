"""Ways out, as functions that run inside a session; each takes its request, a dictionary.

A way raises OSError where it is refused. That it returns is not enough to be called
reached: routes.py says for each what must be seen outside.
"""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def call(result, what=""):
    """The result of a C function, or its error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def syscall(number, *arguments):
    wide = [word if isinstance(word, (bytes, ctypes.Array, ctypes.Structure)) else ctypes.c_long(word)
            for word in arguments]
    wide = [ctypes.byref(word) if isinstance(word, ctypes.Structure) else word for word in wide]
    return call(libc.syscall(ctypes.c_long(number), *wide), f"system call {number}")


def write(path, text):
    """Writes without making the file."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text if isinstance(text, bytes) else text.encode())
    finally:
        os.close(fd)


def send(r):
    """Sends the token as any process may that no gate holds."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.sendto(r["token"].encode(), (r["v4"], r["port"]))
