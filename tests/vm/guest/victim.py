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
buffer = ctypes.create_string_buffer(64)
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
    signal.signal(number, lambda number, _: way.send(f"{word}-signal-{number}.".encode()))
print(way.fileno(), ctypes.addressof(buffer), flush=True)
while True:
    if buffer.value:
        way.send(buffer.value)
        ctypes.memset(buffer, 0, 64)
    time.sleep(0.05)
