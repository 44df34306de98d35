"""The SQL forms, EXPLAIN and DRY RUN of a namespace that is somebody else's: as if it did not exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvql.errors import Error
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import Wire, get, put, request

SECRET = "secret-4711"

READERS = {
    "SELECT": "SELECT * FROM {ns}",
    "SELECT WHERE": "SELECT key FROM {ns} WHERE key = 'a'",
    "SELECT count": "SELECT count(*) FROM {ns}",
    "SELECT unknown column": "SELECT nope(value) FROM {ns}",
    "SELECT unknown field": "SELECT wages FROM {ns}",
    "SELECT GROUP BY": "SELECT value, count(*) FROM {ns} GROUP BY ALL HAVING count(*) > 0 ORDER BY 1 LIMIT 1",
    "SELECT LIMIT 0": "SELECT * FROM {ns} LIMIT 0",
    "UPDATE": "UPDATE {ns} SET value = 1",
    "UPDATE nothing": "UPDATE {ns} SET value = 1 WHERE FALSE",
    "UPDATE unknown column": "UPDATE {ns} SET version = 1",
    "UPDATE RETURNING": "UPDATE {ns} SET value = 1 RETURNING OLD.value, *",
    "DELETE": "DELETE FROM {ns}",
    "DELETE RETURNING": "DELETE FROM {ns} WHERE key = 'a' RETURNING *",
    "TRUNCATE": "TRUNCATE NAMESPACE {ns}",
    "DESCRIBE": "DESCRIBE {ns}",
    "DROP": "DROP NAMESPACE {ns}",
}
CREATORS = {
    "INSERT": "INSERT INTO {ns} VALUES ('b', 1)",
    "INSERT of a key that exists": "INSERT INTO {ns} VALUES ('a', 1)",
    "INSERT DO NOTHING": "INSERT INTO {ns} VALUES ('a', 1) ON CONFLICT DO NOTHING RETURNING *",
    "INSERT DO UPDATE": "INSERT INTO {ns} VALUES ('a', 1) ON CONFLICT DO UPDATE SET value = 2 RETURNING OLD.value",
    "INSERT unknown column": "INSERT INTO {ns} (key, wages) VALUES ('a', 1)",
    "INSERT generated key": "INSERT INTO {ns} (name) VALUES ('a')",
    "INSERT of a wrong type": "INSERT INTO {ns} VALUES (7, 1)",
    "CREATE": "CREATE NAMESPACE {ns}",
    "CREATE IF NOT EXISTS": "CREATE TABLE IF NOT EXISTS {ns} (name TEXT)",
}
EXPLAINED = ("SELECT", "SELECT WHERE", "SELECT unknown column", "UPDATE", "UPDATE RETURNING", "DELETE", "TRUNCATE")
DRY = ("UPDATE", "UPDATE unknown column", "DELETE", "DELETE RETURNING", "TRUNCATE")


def _variants() -> dict[str, str]:
    out = dict(READERS)
    for mode in ("EXPLAIN", "EXPLAIN ANALYZE"):
        out |= {f"{mode} {name}": f"{mode} {READERS[name]}" for name in EXPLAINED}
    return out | {f"DRY RUN {name}": f"DRY RUN {READERS[name]}" for name in DRY}


def _creating() -> dict[str, str]:
    inserts = {name: text for name, text in CREATORS.items() if name.startswith("INSERT")}
    modes = ("EXPLAIN", "EXPLAIN ANALYZE", "DRY RUN")
    return CREATORS | {f"{mode} {name}": f"{mode} {text}" for mode in modes for name, text in inserts.items()}


@pytest.fixture
def people(admin: Wire, wires: dict[str, Wire]) -> Iterator[dict[str, Wire]]:
    """``user`` owns two namespaces: ``owned`` with a pair, and ``declared`` with declared fields and a pair."""
    owner = wires["user"]
    owner.execute(put([("a", SECRET)], "owned"))
    text(owner, "CREATE TABLE declared (name TEXT, wages INTEGER NOT NULL)")
    text(owner, f"INSERT INTO declared (key, name, wages) VALUES ('a', '{SECRET}', 4711)")
    yield wires
    assert owner.rows(get("a", namespace="owned")) == [("a", SECRET)]
    assert len(owner.rows(get("a", namespace="declared"))) == 1
    for name in ("user", "other", "admin"):
        for namespace, *_ in wires[name].rows(pb.Request(namespaces=pb.NamespacesCommand())):
            wires[name].execute(pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=namespace)))


def text(wire: Wire, statement: str) -> list[tuple[object, ...]]:
    return wire.rows(pb.Request(text=pb.TextCommand(text=statement)))


def told(error: Error, namespace: str) -> tuple[object, ...]:
    """All that an error says, apart from the name that the statement itself has."""
    everything = (error.sqlstate, error.message, error.hint or "", error.span, error.item, error.part)
    assert SECRET not in str(everything)
    length = len(namespace)
    return tuple(
        part.replace(namespace, "ns") if isinstance(part, str)
        else tuple(place if place <= 10 else place - length for place in part) if isinstance(part, tuple)
        else part
        for part in everything
    )  # fmt: skip


@pytest.mark.parametrize("namespace", ["owned", "declared"])
@pytest.mark.parametrize("name", _variants())
def test_what_is_somebody_elses_is_not_there(people: dict[str, Wire], name: str, namespace: str) -> None:
    statement = _variants()[name]
    other = people["other"]
    missing = "m" * len(namespace)  # so that every place in the text is the same
    answers = [
        other.refusal(pb.Request(text=pb.TextCommand(text=statement.format(ns=ns)))) for ns in (namespace, missing)
    ]
    assert answers[0].sqlstate == "3F000", answers[0]
    assert told(answers[0], namespace) == told(answers[1], missing)


def test_a_mistyped_name_is_compared_with_what_one_may_see(people: dict[str, Wire]) -> None:
    statements = ("SELECT * FROM owmed", "DESCRIBE owmed", "DROP NAMESPACE owmed", "COUNT FROM owmed")
    for statement in statements:
        hints = {
            name: people[name].refusal(pb.Request(text=pb.TextCommand(text=statement))).hint or ""
            for name in ("user", "admin", "other")
        }
        assert hints["user"] == hints["admin"] == "did you mean owned? SHOW NAMESPACES lists yours"
        assert "owned" not in hints["other"], statement
    notices = {name: people[name].execute(pb.Request(lane=9, text=pb.TextCommand(text="USE owmed"))) for name in people}
    assert "did you mean owned?" in str(notices["user"]) and "owned" not in str(notices["other"])


@pytest.mark.parametrize("namespace", ["owned", "declared"])
@pytest.mark.parametrize("name", _creating())
def test_what_is_somebody_elses_cannot_be_written(people: dict[str, Wire], name: str, namespace: str) -> None:
    error = people["other"].refusal(pb.Request(text=pb.TextCommand(text=_creating()[name].format(ns=namespace))))
    assert error.sqlstate == "42501", error
    assert SECRET not in f"{error.message}{error.hint}"


@pytest.mark.parametrize("mode", [pb.MODE_EXPLAIN, pb.MODE_EXPLAIN_ANALYZE, pb.MODE_DRY_RUN])
@pytest.mark.parametrize("short", [
    "GET a", "HAS a", "COUNT", "SHOW KEYS", "SHOW DATA", "PUT b 1", "UPSERT a 1", "UPDATE a 1", "DELETE a",
    "EXPIRE a 60s", "PERSIST a",
])  # fmt: skip
def test_modes_of_short_forms_ask_the_same_rights(people: dict[str, Wire], short: str, mode: int) -> None:
    prefix = {pb.MODE_EXPLAIN: "EXPLAIN", pb.MODE_EXPLAIN_ANALYZE: "EXPLAIN ANALYZE", pb.MODE_DRY_RUN: "DRY RUN"}[mode]
    reads = short.split()[0] in ("GET", "HAS", "COUNT", "SHOW")
    error = people["other"].refusal(request("owned", text=pb.TextCommand(text=f"{prefix} {short}")))
    creates = short.split()[0] in ("PUT", "UPSERT")
    wanted = "0A000" if reads and mode == pb.MODE_DRY_RUN else "42501" if creates else "3F000"
    assert error.sqlstate in (wanted, "42601"), error
    assert SECRET not in f"{error.message}{error.hint}"


def test_the_owner_and_the_administrator_may(people: dict[str, Wire]) -> None:
    for who in ("user", "admin"):
        assert text(people[who], "SELECT value FROM owned") == [(SECRET,)]
        assert text(people[who], "UPDATE owned SET value = value RETURNING key") == [("a",)]
        assert text(people[who], "DRY RUN DELETE FROM owned") == [("DELETE", "a", SECRET, None)]
        assert text(people[who], "DESCRIBE declared")[0] == ("owner", None, "user")


@pytest.mark.parametrize("namespace", ["$system", "$", "a.b", "a b", "ä", "x" * 65])
def test_the_reserved_namespace_cannot_be_named(people: dict[str, Wire], namespace: str) -> None:
    one = pb.Expression(steps=[pb.Step(op=pb.OP_CONSTANT)], constants=pb.Values(types=b"\x03", integers=[1]))
    select = pb.SelectCommand(namespace=namespace, projections=[pb.Projection(expression=one)])
    assignment = pb.Assignment(path=["value"], expression=one)
    commands = [
        pb.Request(select=select),
        pb.Request(insert=pb.InsertCommand(
            namespace=namespace, width=2, values=pb.Values(types=b"\x06\x06", texts=["user/mallory", "x"])
        )),
        pb.Request(update_rows=pb.UpdateRowsCommand(namespace=namespace, assignments=[assignment])),
        pb.Request(delete_rows=pb.DeleteRowsCommand(namespace=namespace)),
        pb.Request(truncate=pb.TruncateCommand(namespace=namespace)),
        pb.Request(describe=pb.DescribeCommand(namespace=namespace)),
    ]  # fmt: skip
    for command in commands:
        for mode in (pb.MODE_RUN, pb.MODE_EXPLAIN, pb.MODE_EXPLAIN_ANALYZE, pb.MODE_DRY_RUN):
            if command.WhichOneof("command") == "describe" and mode:
                continue
            command.mode = mode
            wanted = "0A000" if command.HasField("select") and mode == pb.MODE_DRY_RUN else "22023"
            assert people["admin"].refusal(command).sqlstate == wanted
            # as the namespace in use
            implicit = pb.Request()
            implicit.CopyFrom(command)
            inner = getattr(implicit, implicit.WhichOneof("command") or "")
            inner.namespace, implicit.namespace = "", namespace
            if implicit.HasField("select"):
                inner.from_session = True
            assert people["admin"].refusal(implicit).sqlstate == wanted


def test_a_refused_statement_in_a_transaction_tells_no_more(people: dict[str, Wire]) -> None:
    session = people["other"].session()
    answers = []
    for lane, namespace in enumerate(("owned", "nobody"), 1):
        for number, statement in enumerate(("BEGIN", f"SELECT * FROM {namespace}", "SELECT 1", "ROLLBACK")):
            identifier = lane * 10 + number
            session.send(pb.Request(id=identifier, lane=lane, text=pb.TextCommand(text=statement)))
            session.receive(identifier)
        answers.append([r.error.sqlstate for r in session.responses if r.id // 10 == lane and r.last])
    session.close()
    assert answers[0] == answers[1] == ["", "3F000", "25P02", ""]
