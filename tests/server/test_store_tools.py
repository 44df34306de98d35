"""``kvql-server verify``, ``backup`` and ``status`` as an operator meets them: sentences, codes, what is touched."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner, Result
from kvql_server import exits
from kvql_server.engines.hashtable import HashTableEngine
from kvql_server.engines.hashtable.files import lock_holder
from kvql_server.executor import Executor, step
from kvql_server.main import main
from kvql_server.service import serving

import kvql
from kvql.transport.target import parse_target
from tests.servers import BIN, WAIT_S, Server, wait_until
from tests.stores import RECORDS, ends, log_of


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def touched(folder: Path) -> dict[str, Any]:
    """Everything that a change would change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.stat().st_ino)
        for path in (*folder.iterdir(),)
        if path.is_file()
    } | {".": folder.stat().st_mtime_ns}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# ── verify ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sound_store(store: Path) -> None:
    before = touched(store)
    done = run("verify", store, "--hash")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].startswith("MANIFEST") and "format 1, store " in lines[0] and "epoch 1, 1 segment" in lines[0]
    assert " ".join(lines[1].split()) == "checkpoint-0000000000000001.kvc 153 bytes 2 blocks, 1 pair, revision 1"
    assert lines[2].endswith("8 records, 16 changes, revisions 2 to 9")
    assert lines[3] == "sound, up to revision 9"
    assert lines[4].startswith("sha256:") and lines[4].endswith(" revision 9 pairs 10")
    assert touched(store) == before


@pytest.mark.parametrize("damage", ["none", "torn", "flip", "checkpoint", "manifest", "no manifest", "leftovers"])
def test_nothing_is_touched_without_repair(store: Path, damage: str) -> None:
    log = log_of(store)
    match damage:
        case "torn":
            os.truncate(log, log.stat().st_size - 3)
        case "flip":
            flip(log, 100)
        case "checkpoint":
            flip(next(store.glob("checkpoint-*")), 60)
        case "manifest":
            flip(store / "MANIFEST", 10)
        case "no manifest":
            (store / "MANIFEST").unlink()
        case "leftovers":
            (store / "MANIFEST.tmp").write_text("half")
    for path in store.iterdir():
        path.chmod(0o400)
    store.chmod(0o500)
    before = touched(store)
    code = {"none": 0, "torn": exits.TORN, "leftovers": 0}.get(damage, exits.DAMAGED)
    assert run("verify", store, "--hash").exit_code == code
    assert run("status", store).exit_code in (0, exits.FOLDER, exits.DAMAGED)
    assert touched(store) == before
    store.chmod(0o700)


def test_a_torn_end(store: Path) -> None:
    log = log_of(store)
    os.truncate(log, log.stat().st_size - 3)
    done = run("verify", store, "--hash")
    assert done.exit_code == exits.TORN
    assert f"DAMAGE {log.name}, offset " in done.output and "; a start cuts it off" in done.output
    assert "torn: the end of the log is as a crash leaves it" in done.output and "revision 8" in done.output
    assert "sha256:" in done.output


def test_damage(store: Path) -> None:
    flip(log_of(store), 100)
    done = run("verify", store, "--hash")
    assert done.exit_code == exits.DAMAGED
    assert "damaged: a start refuses this store; it is whole up to revision 1" in done.output
    assert "no hash" in done.output and "sha256" not in done.output


def test_much_damage_is_told_in_part(store: Path) -> None:
    log = log_of(store)
    data = bytearray(log.read_bytes())
    one = bytes(data[: ends(bytes(data))[0]])[32:]
    log.write_bytes(bytes(data) + b"".join(b"?" + one for _ in range(50)))
    done = run("verify", store)
    assert done.output.count("DAMAGE") == 21 and "more places" in done.output


def test_folders_without_a_store(tmp_path: Path) -> None:
    for arguments in (("verify",), ("status",), ("backup", tmp_path / "to")):
        command, *rest = arguments
        done = run(command, tmp_path / "absent", *rest)
        assert done.exit_code == exits.FOLDER and "there is no folder" in done.output
        done = run(command, tmp_path, *rest)
        assert done.exit_code == exits.FOLDER and "there is no store in" in done.output
    assert list(tmp_path.iterdir()) == []
    assert run("verify").exit_code == exits.USAGE
    assert run("verify", tmp_path, "--nonsense").exit_code == exits.USAGE


def test_a_folder_that_may_not_be_read(store: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (store / "LOCK").chmod(0)
    assert run("verify", store).exit_code == exits.FOLDER


def test_a_start_during_verify_is_kept_out(store: Path) -> None:
    with (store / "LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert run("verify", store).exit_code == 0, "two may look at once"
        done = run("users", "list", "--data", store)
        assert done.exit_code == exits.LOCKED and "in use by another process" in done.output


def test_the_id_of_a_dead_process_is_not_told(store: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (store / "LOCK").write_text(f"{dead.pid}\nkvql://localhost:7443\n")
    with (store / "LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("verify", store)
        assert done.exit_code == exits.LOCKED and "in use by another process" in done.output
        assert "localhost:7443" not in done.output + run("status", store).output


@pytest.mark.parametrize(("host", "port", "url"), [
    ("127.0.0.1", 7443, "kvql://localhost:7443"), ("localhost", 1, "kvql://localhost:1"),
    ("0.0.0.0", 7443, "kvql://localhost:7443"), ("::", 7443, "kvql://localhost:7443"),
    ("db.example.com", 7443, "kvql://db.example.com:7443"), ("fd00::7", 7443, "kvql://[fd00::7]:7443"),
    ("/run/a b.sock", -1, "kvql+unix:///run/a%20b.sock"),
])  # fmt: skip
def test_where_a_server_says_it_is(store: Path, host: str, port: int, url: str) -> None:
    engine = HashTableEngine.open(store)
    serving._announce(str(store), host, port)
    assert lock_holder(str(store)) == (True, os.getpid(), url)
    asyncio.run(engine.close())
    assert lock_holder(str(store)) == (False, None, None)
    assert parse_target(url).remote


def test_a_server_that_cannot_say_where_it_is_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving._announce(str(tmp_path / "nowhere"), "localhost", 7443)
    assert "cannot say in" in caplog.text


# ── repair ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_repair_without_a_terminal_needs_yes(store: Path) -> None:
    flip(log_of(store), 100)
    before = touched(store)
    done = run("verify", store, "--repair")
    assert done.exit_code == exits.USAGE and "say --yes" in done.output
    assert "dropped: revisions 2 to 9; 7 whole records" in done.output
    after = touched(store)
    assert {name: after[name] for name in before if name not in (".", "LOCK")} == {
        name: before[name] for name in before if name not in (".", "LOCK")
    }
    done = run("verify", store, "--repair", "--yes", "--hash")
    assert done.exit_code == 0
    assert "repaired; kept as it was: " in done.output and "sound, up to revision 1\n" in done.output
    assert done.output.endswith("revision 1 pairs 1\n")
    assert (store / f"{log_of(store).name.replace('3', '2')}.before-repair").read_bytes() == before[
        "log-00000002.kvl"
    ][0]  # fmt: skip
    assert run("verify", store, "--repair").output.endswith("there is nothing to repair\n")


@pytest.mark.parametrize("answer", ["y", "n"])
def test_repair_asks_on_a_terminal(store: Path, answer: str) -> None:
    flip(log_of(store), 100)
    child = pexpect.spawn(
        str(BIN / "kvql-server"),
        ["verify", str(store), "--repair"],
        timeout=WAIT_S,
        encoding="utf-8",
        dimensions=(24, 200),
    )
    child.expect_exact("a repair would do this:")
    child.expect_exact("repair? [y/N]:")
    child.sendline(answer)
    child.expect_exact("sound, up to revision 1" if answer == "y" else "nothing was changed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == (0 if answer == "y" else exits.DAMAGED)
    assert bool(list(store.glob("*.before-repair"))) == (answer == "y")


def test_what_cannot_be_repaired(store: Path) -> None:
    point = next(store.glob("checkpoint-*"))
    flip(point, 60)
    done = run("verify", store, "--repair", "--yes")
    assert done.exit_code == exits.DAMAGED
    assert f"cannot be repaired without guessing ({point.name}); restore it from a backup" in done.output
    assert not list(store.glob("*.before-repair"))


def test_links_are_left_alone(store: Path, tmp_path: Path) -> None:
    log = log_of(store)
    elsewhere = tmp_path / "elsewhere.kvl"
    log.rename(elsewhere)
    log.symlink_to(elsewhere)
    flip(elsewhere, 100)
    data = elsewhere.read_bytes()
    done = run("verify", store, "--repair", "--yes")
    assert done.exit_code == exits.FAILED and "is a symbolic link" in done.output
    assert elsewhere.read_bytes() == data and log.is_symlink()


# ── a server that runs ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_server(tmp_path: Path) -> None:
    """Backups while clients write, each restored and started as a server of its own; verify is told to wait."""
    server = Server(tmp_path / "s", arguments=("--checkpoint-interval", "0.2")).start()
    confirmed = dict.fromkeys(range(3), 0)
    ending = threading.Event()

    def write(number: int) -> None:
        with server.connect("shop") as connection:
            while not ending.is_set():
                n = confirmed[number] + 1
                connection.execute("UPSERT ? ?, ? ?", [f"w{number}", n, f"w{number}-{n % 50}", n])
                confirmed[number] = n

    threads = [threading.Thread(target=write, args=(number,)) for number in confirmed]
    try:
        for thread in threads:
            thread.start()
        wait_until(lambda: all(confirmed.values()))
        command = [str(BIN / "kvql-server"), "backup", str(server.data)]
        seen: list[dict[int, int]] = []
        for number in range(4):
            seen.append(dict(confirmed))
            done = subprocess.run([*command, str(tmp_path / f"b{number}")], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "read back and sound" in done.stdout
            time.sleep(0.15)
        assert server.process is not None
        done = run("verify", server.data)
        assert done.exit_code == exits.LOCKED and f"in use by process {server.process.pid}" in done.output
        told = run("status", "--data", server.data, "--format", "json").output
        assert json.loads(told)["state"] == "running" and json.loads(told)["process"] == server.process.pid
        assert json.loads(told)["url"] == f"kvql://localhost:{server.port}"
        said = f"running, process {server.process.pid}, a server at kvql://localhost:{server.port}\n"
        assert said in run("status", server.data).output
    finally:
        ending.set()
        for thread in threads:
            thread.join()
        assert server.stop() == 0
    for number, before in enumerate(seen):
        assert run("verify", tmp_path / f"b{number}").exit_code == 0
        with kvql.connect(str(tmp_path / f"b{number}"), autocommit=True) as copy:
            copy.execute("USE shop")
            pairs = dict(copy.execute("SHOW DATA").fetchall())
        for writer, least in before.items():
            n = pairs[f"w{writer}"]
            assert n >= least
            assert {k: v for k, v in pairs.items() if k.startswith(f"w{writer}-")} == {
                f"w{writer}-{m % 50}": m for m in range(max(1, n - 49), n + 1)
            }
    shutil.rmtree(server.data)
    (tmp_path / "b3").rename(server.data)
    server.start()
    try:
        with server.connect("shop") as connection:
            assert dict(connection.execute("SHOW DATA").fetchall()) == pairs, "users and their passwords are in it"
    finally:
        server.stop()


def test_a_backup_that_is_told_to_end_leaves_nothing(store: Path, tmp_path: Path) -> None:
    log = log_of(store)
    os.truncate(log, log.stat().st_size - 3)  # it waits to see whether that is a write under way: here for ever
    code = (
        "import sys; from kvql_server.main import main; from kvql_server.tools import backup;"
        "backup.SETTLE_S = 1e6; sys.exit(main(sys.argv[1:]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, "backup", str(store), str(tmp_path / "copy")])
    wait_until(lambda: child.poll() is not None or (tmp_path / "copy.tmp").exists())
    child.send_signal(signal.SIGTERM)
    assert child.wait(WAIT_S) == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_the_sentences_of_a_backup(store: Path, tmp_path: Path) -> None:
    done = run("backup", store, tmp_path / "copy")
    assert done.exit_code == 0
    assert done.output.startswith(f"{tmp_path / 'copy'}: store ") and "up to revision 9, " in done.output
    done = run("backup", store, tmp_path / "copy")
    assert done.exit_code == exits.FAILED and "name another place" in done.output
    flip(next(store.glob("checkpoint-*")), 60)
    done = run("backup", store, tmp_path / "other")
    assert done.exit_code == exits.DAMAGED and "is damaged at offset" in done.output


# ── status ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_status_of_a_stopped_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = touched(store)
    told = json.loads(run("status", store, "--format", "json").output)
    assert told["checkpoint_age_s"] < 100 and told.pop("checkpoint_time") > 10**15 and len(told.pop("store")) == 16
    del told["checkpoint_age_s"]
    assert told == {
        "state": "stopped", "process": None, "url": None, "folder": str(store), "format": 1, "epoch": 1,
        "revision": RECORDS + 1, "closed": False, "segments": 1, "records": RECORDS,
        "log_bytes": log_of(store).stat().st_size,
        "log_bytes_allocated": log_of(store).stat().st_size, "checkpoint": "checkpoint-0000000000000001.kvc",
        "checkpoint_revision": 1, "checkpoint_bytes": 153, "checkpoint_pairs": 1, "history": {},
    }  # fmt: skip
    monkeypatch.setenv("KVQL_SERVER_DATA", str(store))
    lines = dict(line.split(":", 1) for line in run("status").output.splitlines())
    assert lines["state"].strip() == "stopped, not closed in order" and lines["revision"].strip() == "9"
    assert "1 segment, 8 records" in lines["log"] and "revision 1, 1 pair, 153 bytes" in lines["checkpoint"]
    assert touched(store) == before


def test_status_tells_what_history_costs(tmp_path: Path) -> None:
    from kvql_server.engines.hashtable import HashTableEngine

    with kvql.connect(str(tmp_path / "s"), autocommit=True) as connection:
        for text in ("CREATE NAMESPACE none WITH (history = '0s')", "USE none", "PUT a 1", "UPDATE a 2", "USE shop",
                     "PUT a 1", "UPDATE a 2", "UPDATE a 3", "DELETE a", "USE quiet", "PUT a 1"):  # fmt: skip
            connection.execute(text)
    engine = HashTableEngine.open(tmp_path / "s")
    step(Executor(engine).start())
    engine.checkpoint()
    engine.close_now()
    (kept,) = json.loads(run("status", tmp_path / "s", "--format", "json").output)["history"].items()
    assert kept[0] == "shop"
    assert (kept[1]["changes"], kept[1]["oldest_revision"], kept[1]["oldest_time"]) == (3, 0, None), (
        "nothing is missing"
    )
    assert (
        f"history:    shop 3 changes, {kept[1]['bytes']:,} bytes, from revision 0 on"
        in run("status", tmp_path / "s").output.splitlines()
    )


def test_status_of_a_store_that_was_closed(tmp_path: Path) -> None:
    with kvql.connect(str(tmp_path / "s"), autocommit=True) as connection:
        connection.execute("PUT a 1")
    told = run("status", tmp_path / "s").output
    assert "stopped, closed in order" in told and "checkpoint: none" in told


def test_status_is_asked_of_folders(store: Path) -> None:
    assert run("status", "kvql://localhost").exit_code == exits.USAGE
    assert run("status", store, "--data", store).exit_code == exits.USAGE
    flip(store / "MANIFEST", 10)
    assert run("status", store).exit_code == exits.DAMAGED
