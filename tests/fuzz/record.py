"""Records the corpus from real conversations: record.py OUT, with PGHOST, PGPORT, PGUSER and
PGPASSWORD of a server of your own. psycopg 3 talks to it by way of a relay in this program.

Each file is a byte that says where the target cuts the rest in two, and what one side said.
"""
import hashlib
import os
import pathlib
import socket
import struct
import sys
import threading

import psycopg

OUT = pathlib.Path(sys.argv[1])
SERVER = (os.environ["PGHOST"], int(os.environ["PGPORT"]))
LONGEST = 3000


def pump(source, target, seen):
    while data := source.recv(65536):
        seen += data
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def relay(listener, seen):
    client, _ = listener.accept()
    server = socket.create_connection(SERVER)
    up = threading.Thread(target=pump, args=(client, server, seen[0]))
    up.start()
    pump(server, client, seen[1])
    up.join()


def talk(work, **options):
    """What client and server said, of one connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = (bytearray(), bytearray())
    thread = threading.Thread(target=relay, args=(listener, seen))
    thread.start()
    port = listener.getsockname()[1]
    with psycopg.connect(
        host="127.0.0.1", port=port, dbname="postgres", sslmode="disable",
        gssencmode="disable", autocommit=True, **options,
    ) as connection:
        work(connection)
    thread.join()
    return bytes(seen[0]), bytes(seen[1])


def frames(data):
    while data:
        length = struct.unpack("!i", data[1:5])[0] + 1
        yield data[:length]
        data = data[length:]


def put(target, data):
    data = bytes([len(data) // 2 % 256]) + data[:LONGEST]
    path = OUT / target
    path.mkdir(parents=True, exist_ok=True)
    (path / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)


def record(work, **options):
    up, down = talk(work, **options)
    length = struct.unpack("!i", up[:4])[0]
    put("startup", up[:length])
    # Behind the start-up packet: the credential, then the work.
    said = [frame for frame in frames(up[length:]) if frame[:1] != b"p"]
    put("frontend", b"".join(said))
    heard = list(frames(down))
    login = [number for number, frame in enumerate(heard) if frame[:1] == b"Z"][0]
    put("backend", b"".join(heard[: login + 1]))
    put("backend", b"".join(heard[login + 1 :]))


def simple(connection):
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS orders (id int, note text)")
    connection.execute("SELECT 1; SELECT 2, NULL; BEGIN; COMMIT")
    connection.execute("")


def prepared(connection):
    for number in range(3):
        connection.execute("SELECT %s::int, 'x'", (number,), prepare=True)
    connection.execute("SELECT %b::int", (7,), binary=True)


def failing(connection):
    for text in ("SELECT 1/0", "SELEC", "SELECT * FROM forbidden"):
        try:
            connection.execute(text)
        except psycopg.Error:
            pass
    connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")


def pipelined(connection):
    try:
        with connection.pipeline():
            for text in ("SELECT 1", "SELECT 2", "SELECT 1/0", "SELECT 3"):
                connection.execute(text)
    except psycopg.Error:
        pass


def copied(connection):
    connection.execute("CREATE TEMP TABLE orders (id int, note text)")
    cursor = connection.cursor()
    with cursor.copy("COPY orders FROM STDIN") as copy:
        copy.write_row((1, "one"))
    with cursor.copy("COPY orders TO STDOUT (FORMAT binary)") as copy:
        for _ in copy:
            pass
    try:
        with cursor.copy("COPY orders FROM STDIN") as copy:
            copy.write("x\ty\n")
    except psycopg.Error:
        pass


def named(connection):
    connection.execute("PREPARE q AS SELECT 1")
    connection.execute("EXECUTE q")
    with connection.transaction():
        with connection.cursor(name="c") as cursor:
            cursor.execute("SELECT generate_series(1, 5)")
            cursor.fetchmany(2)
    connection.execute("LISTEN a")
    connection.execute("NOTIFY a, 'b'")
    connection.execute("SET client_encoding = 'LATIN1'")


for work in (simple, prepared, failing, pipelined, copied, named):
    record(work)
record(simple, options="-c statement_timeout=5s -c jit=off", application_name="x")
for packet in ((80877103,), (80877104,), (80877102, 7, 0x01020304)):
    put("startup", struct.pack(f"!i{len(packet)}i", 4 + 4 * len(packet), *packet))
