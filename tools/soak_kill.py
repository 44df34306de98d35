"""``kill -9`` under four writers, again and again: no confirmed write may be lost, none half there, none invented.

Each round starts the real ``kvql-server`` (TLS, logins, checkpoints every fifth of a second), checks what the rounds
before
left, lets four threads write through ``kvql.connect`` while they note what they sent and what was confirmed, and
kills the server at a moment drawn at random. What was confirmed must be there; what was sent last may be, whole.

    python tools/soak_kill.py --rounds 500 [--seed 7] [--folder DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kvql

WRITERS: Final = 4
KEEP_ROUNDS: Final = 5
"""Rounds whose pairs are compared after every restart; the others are compared at the end."""
START_TIMEOUT_S: Final = 30.0
_BIN: Final = Path(sys.executable).parent

State = dict[str, Any]


class Writer(threading.Thread):
    """One client: it writes until its connection breaks, and remembers what must be there and what may be."""

    def __init__(self, number: int, namespace: str, connection: kvql.Connection, seed: int) -> None:
        super().__init__(name=f"writer-{number}")
        self.number = number
        self.namespace = namespace
        self.confirmed: State = {}
        self.maybe: State = {}
        """What the keys are if the statement under way at the end was carried out."""
        self.writes = 0
        self.surprise: str | None = None
        self._connection = connection
        self._rng = random.Random(seed)
        self._count = 0

    def run(self) -> None:
        try:
            while True:
                self._one()
        except kvql.Error as e:
            # the connection is gone, or the outcome unknown; a refusal would be a fault
            if e.sqlstate not in ("08006", "08001", "40003", "57014"):
                self.surprise = f"{e.sqlstate}: {e}"

    def _one(self) -> None:
        self._count += 1
        state = dict(self.confirmed)
        statements = self._statements(state)
        self.maybe = state
        cursor = self._connection.cursor()
        for text, parameters in statements:
            cursor.execute(text, parameters)
        self.confirmed = state
        self.writes += 1

    def _statements(self, state: State) -> list[tuple[str, list[Any]]]:
        """The next thing to do; ``state`` becomes what it leads to."""
        name, n, roll = f"w{self.number}", self._count, self._rng.random()
        if roll < 0.3:
            state[f"{name}-{n}"] = n
            return [("PUT ? ?", [f"{name}-{n}", n])]
        if roll < 0.5:
            keys = [f"{name}-{n}-{part}" for part in range(self._rng.choice([2, 3, 200]))]
            state.update(dict.fromkeys(keys, n))
            pairs = [part for key in keys for part in (key, n)]
            return [("PUT " + ", ".join(["? ?"] * len(keys)), pairs)]
        if roll < 0.7 or not state:
            state[f"{name}-hot"] = n
            return [("UPSERT ? ?", [f"{name}-hot", n])]
        if roll < 0.85:
            keys = self._rng.sample(sorted(state), min(2, len(state)))
            for key in keys:
                del state[key]
            return [("DELETE " + ", ".join("?" * len(keys)), keys)]
        state[f"{name}-a"] = state[f"{name}-b"] = n
        return [
            ("BEGIN", []),
            ("UPSERT ? ?", [f"{name}-a", n]),
            ("UPSERT ? ?", [f"{name}-b", n]),
            ("COMMIT", []),
        ]


class Soak:
    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.rng = rng
        self.password = secrets.token_urlsafe(12)
        self.prefix: list[str] = []
        """A command that runs the server in its own process, as ``strace -D`` does."""
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.expected: dict[str, State] = {}
        self.written: tuple[str, list[Writer]] | None = None
        """The round whose outcome the next start tells."""
        self.writes = 0
        self.unknown = 0
        self.carried_out = 0
        self.faults: list[str] = []

    def prepare(self) -> None:
        """Certificates and users, as an operator makes them."""
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        subprocess.run(
            [_BIN / "kvql-server", "certs", "--host", "localhost", "--out", self.folder / "certs"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        users = data / "users.json"
        users.touch(mode=0o600)
        users.write_text(json.dumps([{"username": "soak", "password": self.password, "perms": ["ADMIN"]}]))

    def start(self) -> None:
        command: list[str | Path] = [
            *self.prefix, _BIN / "kvql-server", "start", "--data", self.folder / "data",
            "--certs", self.folder / "certs", "--listen", "127.0.0.1:0", "--checkpoint-interval", "0.2", "--print-port",
        ]  # fmt: skip
        with (self.folder / "server.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line.isdigit():
            code = self.process.wait(START_TIMEOUT_S)
            raise SystemExit(
                f"the server did not start (exit code {code}):\n{(self.folder / 'server.log').read_text()}"
            )
        self.port = int(line)

    def kill(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def connect(self, namespace: str) -> kvql.Connection:
        return kvql.connect(
            f"kvql://soak@localhost:{self.port}/{namespace}", password=self.password,
            ca=self.folder / "certs" / "ca.pem", autocommit=True,
        )  # fmt: skip

    def round(self, number: int) -> None:
        """Start, judge the round before, write, kill."""
        self.start()
        namespace = f"r{number}"
        try:
            self.judge()
            connections = [self.connect(namespace) for _ in range(WRITERS)]
            writers = [Writer(n, namespace, c, self.rng.randrange(2**32)) for n, c in enumerate(connections)]
            for writer in writers:
                writer.start()
            self.let_live()
        finally:
            self.kill()
        for writer in writers:
            writer.join(30)
            if writer.is_alive():
                raise SystemExit(f"{writer.name} hangs after the server was killed")
            if writer.surprise is not None:
                self.faults.append(f"{namespace}: {writer.name} was refused: {writer.surprise}")
        for connection in connections:
            with contextlib.suppress(kvql.Error):  # its server is dead
                connection.close()
        self.written = namespace, writers

    def let_live(self) -> None:
        """Until the moment of the kill."""
        time.sleep(self.rng.uniform(0.01, 0.3))

    def judge(self) -> None:
        """After a restart: each writer's keys are as confirmed, or as its last statement would have made them."""
        with self.connection() as connection:
            for name in list(self.expected)[-KEEP_ROUNDS:]:
                self.compare(connection, name)
            if self.written is not None:
                namespace, writers = self.written
                self.expected[namespace] = self.settle(namespace, writers, read(connection, namespace))
                self.written = None

    def compare(self, connection: kvql.Connection, namespace: str) -> None:
        """What was there after an earlier restart is there still."""
        there = read(connection, namespace)
        if there != self.expected[namespace]:
            self.faults.append(
                f"{namespace}: {len(there)} pairs instead of {len(self.expected[namespace])}, or other ones"
            )

    def settle(self, namespace: str, writers: list[Writer], there: State) -> State:
        for writer in writers:
            mine = {key: value for key, value in there.items() if key.startswith(f"w{writer.number}-")}
            self.writes += writer.writes
            self.unknown += writer.maybe != writer.confirmed
            if mine == writer.confirmed:
                continue
            if mine == writer.maybe:
                self.carried_out += 1
            else:
                self.faults.append(_difference(namespace, writer, mine))
        stray = [key for key in there if not key.startswith(tuple(f"w{n}-" for n in range(WRITERS)))]
        if stray:
            self.faults.append(f"{namespace}: keys that nobody sent: {stray[:5]}")
        return there

    def finish(self) -> None:
        """Everything once more."""
        self.start()
        try:
            self.judge()
            with self.connection() as connection:
                for namespace in self.expected:
                    self.compare(connection, namespace)
        finally:
            self.kill()

    @contextlib.contextmanager
    def connection(self) -> Iterator[kvql.Connection]:
        connection = self.connect("main")
        try:
            yield connection
        finally:
            connection.close()


def read(connection: kvql.Connection, namespace: str) -> State:
    """All pairs; none if the server was killed before the first write made the namespace."""
    try:
        return dict(connection.execute(f"SELECT key, value FROM {namespace}").fetchall())
    except kvql.Error as e:
        if e.sqlstate == "3F000":
            return {}
        raise


def _difference(namespace: str, writer: Writer, there: State) -> str:
    confirmed, maybe = writer.confirmed, writer.maybe
    lost = [key for key in confirmed if key not in there and key in maybe]
    invented = [key for key in there if key not in confirmed and key not in maybe]
    other = [key for key in there if there[key] not in (confirmed.get(key), maybe.get(key))]
    return (
        f"{namespace}: {writer.name}: lost {lost[:5]}, invented {invented[:5]}, other values {other[:5]}, "
        "or half a commit"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="kill -9 under four writers, and look for lost or invented writes")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's choices (not its timing)")
    parser.add_argument("--folder", type=Path, default=None, help="work here and leave everything behind")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}, {options.rounds} rounds", flush=True)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kvql-soak-"))
    soak = Soak(folder, random.Random(seed))
    began = time.monotonic()
    soak.prepare()
    done = 0
    for number in range(1, options.rounds + 1):
        soak.round(number)
        done = number
        if soak.faults:
            break
        if number % 25 == 0:
            print(f"{number} rounds, {soak.writes} confirmed writes, {time.monotonic() - began:.0f} s", flush=True)
    if not soak.faults:
        soak.finish()
    took = time.monotonic() - began
    print(
        f"seed {seed}: {done} rounds in {took:.0f} s ({took / max(done, 1):.2f} s each), "
        f"{soak.writes} confirmed writes, {soak.unknown} without an answer, "
        f"{soak.carried_out} of them carried out, {len(soak.faults)} faults"
    )
    for fault in soak.faults:
        print(f"FAULT {fault}")
    if soak.faults:
        print(f"the folder is kept: {folder}")
        return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
