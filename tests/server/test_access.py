"""Who may do what: owner, other user, administrator; what is forbidden looks like what does not exist."""

from __future__ import annotations

import pytest

from kvql.v1 import kvql_pb2 as pb
from tests.server.support import BEGIN, COMMIT, UPDATE, UPSERT, Wire, act, get, put, request, write


def statements(namespace: str) -> dict[str, pb.Request]:
    select = pb.SelectCommand(namespace=namespace)
    select.projections.add(name="*", expression=pb.Expression(steps=[pb.Step(op=pb.OP_STAR)]))
    lists = {
        what: pb.Request(list=pb.ListCommand(what=pb.ListCommand.What.Value(what), namespace=namespace))
        for what in ("COUNT", "KEYS", "DATA")
    }
    return {
        "GET": get("a", namespace=namespace), "HAS": request(namespace, has=pb.HasCommand(keys=["a"])), **lists,
        "SELECT": pb.Request(select=select), "UPDATE": request(namespace, write=write(UPDATE, [("a", 2)])),
        "EXPIRE": request(namespace, expire=pb.ExpireCommand(key="a", ttl_ms=60_000)),
        "PERSIST": request(namespace, expire=pb.ExpireCommand(key="a")),
        "DELETE": request(namespace, delete=pb.DeleteCommand(keys=["a"])),
        "DROP": pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=namespace)),
    }  # fmt: skip


@pytest.fixture
def people(admin: Wire, wires: dict[str, Wire]) -> dict[str, Wire]:
    """``user`` owns a namespace of that name with one pair."""
    wires["user"].execute(put([("a", 1)], "owned"))
    return wires


@pytest.mark.parametrize("name", statements("x"))
def test_owner_and_administrator_may_others_see_nothing(people: dict[str, Wire], name: str) -> None:
    forbidden = people["other"].refusal(statements("owned")[name])
    missing = people["other"].refusal(statements("missing")[name])
    assert forbidden.sqlstate == missing.sqlstate == "3F000"
    assert forbidden.message.replace("owned", "missing") == missing.message
    assert forbidden.hint == missing.hint
    assert forbidden.part == missing.part
    assert people["admin"].rows(get("a", namespace="owned")) == [("a", 1)]
    people["user"].execute(statements("owned")[name])


@pytest.mark.parametrize("name", statements("x"))
def test_the_administrator_may(people: dict[str, Wire], name: str) -> None:
    people["admin"].execute(statements("owned")[name])


def test_a_taken_name_cannot_be_created_or_written(people: dict[str, Wire]) -> None:
    other = people["other"]
    for command in (
        put([("b", 1)], "owned"), request("owned", write=write(UPSERT, [("a", 2)])),
        pb.Request(create_namespace=pb.CreateNamespaceCommand(namespace="owned")),
        pb.Request(create_namespace=pb.CreateNamespaceCommand(namespace="owned", if_not_exists=True)),
    ):  # fmt: skip
        assert other.refusal(command).sqlstate == "42501"
    assert people["admin"].rows(pb.Request(namespaces=pb.NamespacesCommand())) == [("owned", "user", 1)]


def test_use_and_drop_if_exists_tell_nothing(people: dict[str, Wire]) -> None:
    told = []
    for name in ("owned", "missing"):
        use = people["other"].execute(pb.Request(use=pb.UseCommand(namespace=name)))
        drop = people["other"].execute(
            pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=name, if_exists=True))
        )
        told.append([r.done.notices[0].message.replace(name, "x") for r in (*use.responses, *drop.responses)])
    assert told[0] == told[1]
    assert people["user"].rows(get("a", namespace="owned")) == [("a", 1)]


def test_show_namespaces_lists_the_readable_ones(people: dict[str, Wire]) -> None:
    people["other"].execute(put([("x", 1), ("y", 2)], "theirs"))
    show = pb.Request(namespaces=pb.NamespacesCommand())
    assert people["other"].rows(show) == [("theirs", "other", 2)]
    assert people["user"].rows(show) == [("owned", "user", 1)]
    assert people["admin"].rows(show) == [("owned", "user", 1), ("theirs", "other", 2)]


def test_the_writer_is_recorded(people: dict[str, Wire]) -> None:
    select = pb.SelectCommand(namespace="owned")
    select.projections.add(
        name="by", expression=pb.Expression(steps=[pb.Step(op=pb.OP_COLUMN, arity=1)], names=["updated_by"])
    )
    assert people["user"].rows(pb.Request(select=select)) == [("user",)]


def test_a_namespace_that_is_taken_meanwhile_is_a_conflict(people: dict[str, Wire]) -> None:
    """What was authorised at use is authorised again at commit."""
    session = people["user"].session()
    session.ask(act(BEGIN, id=1, lane=1))
    session.ask(put([("b", 1)], "owned", id=2, lane=1))
    people["admin"].execute(pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace="owned")))
    people["other"].execute(put([("z", 1)], "owned"))
    assert session.ask(act(COMMIT, id=3, lane=1)).error.sqlstate == "40001"
    session.close()
    assert people["other"].rows(request("owned", list=pb.ListCommand(what=pb.ListCommand.DATA))) == [("z", 1)]


def test_the_reserved_namespace_cannot_be_named(people: dict[str, Wire]) -> None:
    for command in statements("$system").values():
        assert people["admin"].refusal(command).sqlstate == "22023"
