"""The door in process: one engine a folder, sessions of their own, durable answers."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from kvql_server.engines.hashtable.files import OsFile
from kvql_server.local import LocalSession, open_folder

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, COMMIT, act, get, put, request


def test_a_folder_opened_twice_is_one_store(tmp_path: Path) -> None:
    first, second = open_folder(str(tmp_path / "s")), open_folder(str(tmp_path / "x" / ".." / "s"))
    first.session().execute(put([("a", 1)]))
    assert second.session().execute(get("a"))[0].rows == [("a", 1)]
    first.close()
    assert second.session().execute(get("a"))[0].rows == [("a", 1)]
    second.close()
    second.close()
    with open_folder(str(tmp_path / "s")) as again:
        assert again.session().execute(get("a"))[0].rows == [("a", 1)]


def test_memory_stores_are_apart() -> None:
    with open_folder(":memory:") as one, open_folder(":memory:") as two:
        one.session().execute(put([("a", 1)]))
        with pytest.raises(Error, match="3F000"):
            two.session().execute(get("a"))


def test_it_starts_in_main_which_reads_as_empty() -> None:
    with open_folder(":memory:") as store:
        session = store.session()
        assert list(session.execute(pb.Request(list=pb.ListCommand()))[0].rows) == [(0,)]
        assert session.execute(pb.Request(namespaces=pb.NamespacesCommand()))[0].rows == []
        session.execute(put([("a", 1)], ""))
        assert session.execute(pb.Request(namespaces=pb.NamespacesCommand()))[0].rows == [("main", "admin", 1)]


def test_rows_stream_from_their_snapshot() -> None:
    with open_folder(":memory:") as store:
        session = store.session()
        session.execute(put([(f"k{i:05}", i) for i in range(10_000)]))
        rows = iter(session.execute(request(list=pb.ListCommand(what=pb.ListCommand.DATA)))[0].rows)
        first = next(rows)
        session.execute(put([("k00000a", 1)]))
        session.execute(pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace="shop")))
        assert [first, *rows] == [(f"k{i:05}", i) for i in range(10_000)]


def test_closing_a_session_rolls_back() -> None:
    with open_folder(":memory:") as store:
        session = store.session()
        session.execute(act(BEGIN))
        session.execute(put([("a", 1)]))
        session.close()
        with pytest.raises(Error, match="3F000"):
            store.session().execute(get("a"))


def test_sessions_of_several_threads() -> None:
    """Read, add one, write, in transactions repeated on 40001: no update is lost."""
    with open_folder(":memory:") as store:
        store.session().execute(put([("n", 0)]))

        def work(session: LocalSession) -> None:
            for _ in range(50):
                while True:
                    session.execute(act(BEGIN))
                    [(_, n)] = session.execute(get("n"))[0].rows
                    update = pb.WriteCommand(mode=pb.WRITE_MODE_UPDATE, keys=["n"])
                    update.values.types = b"\x03"
                    update.values.integers.append(n + 1)
                    session.execute(request(write=update))
                    try:
                        session.execute(act(COMMIT))
                        break
                    except Error as e:
                        assert e.sqlstate == "40001"

        threads = [threading.Thread(target=work, args=(store.session(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.session().execute(get("n"))[0].rows == [("n", 200)]


def test_text_with_parameters_and_places() -> None:
    with open_folder(":memory:") as store:
        session = store.session()
        text = pb.TextCommand(text="USE shop; PUT a ?; GET a", parameters=pb.Values(types=b"\x03", integers=[5]))
        results = session.execute(pb.Request(text=text))
        assert results[-1].rows == [("a", 5)]
        with pytest.raises(Error) as failure:
            session.execute(pb.Request(text=pb.TextCommand(text="GET missing")))
        assert failure.value.sqlstate == "02000"
        assert failure.value.span == (4, 11)
        with pytest.raises(Error) as failure:
            session.execute(pb.Request(text=pb.TextCommand(text="PUT b 1; SELCT")))
        assert failure.value.sqlstate == "42601"
        with pytest.raises(Error, match="02000"):
            session.execute(get("b"))


def test_count_reads_only_its_own_namespace() -> None:
    """Whatever else is in the store: COUNT asks the engine for one namespace."""
    with open_folder(":memory:") as store:
        session = store.session()
        session.execute(put([("a", 1)], "mine"))
        session.execute(put([("b", 1)], "others"))
        asked: list[str] = []
        engine = store._shared.engine
        original = engine.snapshot

        class Watching:
            def __init__(self) -> None:
                self._inner = original()
                self.revision, self.time = self._inner.revision, self._inner.time

            async def get(self, namespace: str, key: str) -> object:
                asked.append(f"{namespace} {key}")
                return await self._inner.get(namespace, key)

            async def count(self, namespace: str) -> int:
                asked.append(namespace)
                return await self._inner.count(namespace)

            def close(self) -> None:
                self._inner.close()

        engine.snapshot = Watching
        assert list(session.execute(request("mine", list=pb.ListCommand()))[0].rows) == [(1,)]
        assert asked == ["$system namespace/mine", "mine"]


def test_a_disk_that_fails_at_the_end_is_told_as_any_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_folder(str(tmp_path / "s"))
    store.session().execute(put([("a", 1)]))

    def broken(file: OsFile) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(OsFile, "sync", broken)
    with pytest.raises(Error, match="40003"):
        store.close()
