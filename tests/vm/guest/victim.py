"""A process outside of every session, of the agent's user, that can be made to speak.

It sends what appears in its buffer, and one word for each signal; arguments: the sink's
address, the word. It prints its descriptor and the buffer's address when it is ready.
"""

import ctypes
import signal
import socket
import sys
import time

sink, word = sys.argv[1], sys.argv[2]
way = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
way.connect((sink, 9))
SLOTS, SIZE = 3, 64
buffer = ctypes.create_string_buffer(SLOTS * SIZE)
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
    signal.signal(number, lambda number, _: way.send(f"{word}signal-{number}.".encode()))
print(way.fileno(), ctypes.addressof(buffer), flush=True)
while True:
    for at in range(ctypes.addressof(buffer), ctypes.addressof(buffer) + SLOTS * SIZE, SIZE):
        if text := ctypes.string_at(at, SIZE).rstrip(b"\0"):
            way.send(text)
            ctypes.memset(at, 0, SIZE)
    time.sleep(0.05)
