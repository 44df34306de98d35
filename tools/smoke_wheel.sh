#!/usr/bin/env bash
# Install the built wheel in an empty environment and use it from another folder: shell in process, server over TLS.
#   tools/smoke_wheel.sh DIST WORK
set -euo pipefail
dist="$(cd "$1" && pwd)"
mkdir -p "$2"
work="$(cd "$2" && pwd)"
lock="$(cd "$(dirname "$0")/.." && pwd)/requirements/dev.txt"

python3 -m venv "$work/venv" 2>/dev/null || "$(dirname "$0")/../.venv/bin/python" -m venv "$work/venv"
bin="$work/venv/bin"
wheel="$(ls "$dist"/*.whl | tail -n 1)"
# the versions of the lock, only those that the wheel asks for
sed -E 's/ *\\$//; /^ +--hash/d; /^ *#/d' "$lock" >"$work/constraints.txt"
"$bin/python" -m pip install --quiet --disable-pip-version-check -c "$work/constraints.txt" "$wheel[server]"

cd "$work"
export HOME="$work" KVQL_PASSWORD=smoke-Password-1
"$bin/kvql" --version
"$bin/kvql" :memory: -c "PUT a 'from a wheel'; GET a" | grep -q 'from a wheel'

"$bin/kvql-server" certs --host=localhost
mkdir -p data
printf '[{"username": "admin", "password": "%s", "perms": ["ADMIN"]}]\n' "$KVQL_PASSWORD" >data/users.json
"$bin/kvql-server" start --data data --listen localhost:0 --print-port >port 2>server.log &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
for _ in $(seq 200); do [ -s port ] && break; sleep 0.05; done
port="$(grep -oE '[0-9]+' port | tail -n 1)"
target="kvql://admin@localhost:$port/smoke"
"$bin/kvql" "$target" --ca certs/ca.pem -c "PUT k 'over TLS'"
"$bin/kvql" "$target" --ca certs/ca.pem -c "GET k" | grep -q 'over TLS'
kill -TERM "$server"
wait "$server"
trap - EXIT
echo "the wheel works: in process and over TLS"
