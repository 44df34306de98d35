"""Every rule of LANGUAGE §1 and §2, broken by requests built by hand: refused, and nothing changed."""

from __future__ import annotations

import pytest
from kvql_server import rules

from kvql.codec import encode_values
from kvql.v1 import kvql_pb2 as pb
from tests.server.support import PUT, UPDATE, UPSERT, Wire, get, put, request, write

BAD_KEYS = {
    "empty": "", "space": "a b", "ideographic space": "a\u3000b", "no-break space": "a\u00a0b", "tab": "a\tb",
    "newline": "a\n", "nul": "a\0b", "delete": "a\x7f", "c1 control": "a\x85b", "dot": "a.b", "only a dot": ".",
    "right-to-left override": "a\u202eb", "isolate": "a\u2066b", "arabic letter mark": "\u061ca", "mark": "a\u200e",
    "513 bytes": "k" * 513, "513 bytes of umlauts": "ä" * 256 + "k", "line separator": "a\u2028b",
}  # fmt: skip
GOOD_KEYS = [
    "a", "k" * 512, "ä" * 256, "user:1", "U+0041", "http://h/?q=1", "\U0001f600", "a\u0301",
    "--", "'", '"', "%_", "123",
    "a\u200bb", "\ufeffa", "\ue000",
]  # fmt: skip


def commands(key: str) -> dict[str, pb.Request]:
    """Each command that names a key."""
    return {
        "put": put([("ok", 1), (key, 1)]),
        "update": request(write=write(UPDATE, [(key, 1)])),
        "upsert": request(write=write(UPSERT, [("ok", 1), (key, 1)])),
        "get": get("here", key),
        "has": request(has=pb.HasCommand(keys=[key])),
        "delete": request(delete=pb.DeleteCommand(keys=["here", key])),
        "expire": request(expire=pb.ExpireCommand(key=key, ttl_ms=5)),
    }


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_is_refused_by_every_command(admin: Wire, key: str) -> None:
    admin.execute(put([("here", 1)]))
    for name, command in commands(key).items():
        error = admin.refusal(command)
        assert error.sqlstate == "22023", name
        assert error.part == pb.PART_KEY, name
        assert error.item == (2 if name in ("put", "upsert", "get", "delete") else 1), name
    assert admin.rows(request(list=pb.ListCommand(what=pb.ListCommand.DATA))) == [("here", 1)]


def test_good_keys_are_kept_as_they_are(admin: Wire) -> None:
    admin.execute(put([(key, key) for key in GOOD_KEYS]))
    assert admin.rows(request(list=pb.ListCommand(what=pb.ListCommand.KEYS))) == [(k,) for k in sorted(GOOD_KEYS)]


def test_a_dot_names_the_remedy(admin: Wire) -> None:
    error = admin.refusal(get("shop.a"))
    assert error.hint is not None
    assert "USE shop" in error.hint


@pytest.mark.parametrize("name", ["my ns!", "a.b", "", "a" * 65, "ä", "１２３", "a\n", "a/b", "..", "$system", " a"])
def test_a_bad_namespace_is_refused_everywhere(admin: Wire, name: str) -> None:
    before = admin.rows(pb.Request(namespaces=pb.NamespacesCommand()))
    wanted = {"22023"} if name else {"22023", "3F000"}
    for command in (
        put([("a", 1)], name), get("a", namespace=name), request(name, list=pb.ListCommand()),
        request("", list=pb.ListCommand(namespace=name)), pb.Request(use=pb.UseCommand(namespace=name)),
        pb.Request(create_namespace=pb.CreateNamespaceCommand(namespace=name)),
        pb.Request(drop_namespace=pb.DropNamespaceCommand(namespace=name)),
        pb.Request(select=pb.SelectCommand(namespace=name, from_session=True, projections=[pb.Projection(
            expression=pb.Expression(steps=[pb.Step(op=pb.OP_STAR)]))])),
    ):  # fmt: skip
        assert admin.refusal(command).sqlstate in wanted
    assert admin.rows(pb.Request(namespaces=pb.NamespacesCommand())) == before


@pytest.mark.parametrize("name", ["123", "a", "A", "Z" * 64])
def test_a_good_namespace(admin: Wire, name: str) -> None:
    admin.execute(put([("a", 1)], name))
    assert admin.rows(get("a", namespace=name)) == [("a", 1)]


def test_namespaces_differ_by_case(admin: Wire) -> None:
    admin.execute(put([("a", 1)], "shop"))
    admin.execute(put([("a", 2)], "SHOP"))
    assert admin.rows(pb.Request(namespaces=pb.NamespacesCommand())) == [("SHOP", "admin", 1), ("shop", "admin", 1)]


def test_dots_cannot_make_two_namespaces_share_keys(admin: Wire) -> None:
    assert admin.refusal(put([("b.c", 1)], "a")).sqlstate == "22023"
    assert admin.refusal(put([("c", 1)], "a.b")).sqlstate == "22023"


@pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 + 1])
def test_the_size_of_a_value(admin: Wire, size: int) -> None:
    for value in ("x" * size, b"x" * size):
        if size > 1024 * 1024:
            error = admin.refusal(put([("v", value)]))
            assert (error.sqlstate, error.part) == ("22023", pb.PART_VALUE)
        else:
            admin.execute(request(write=write(UPSERT, [("v", value)])))


MALFORMED = {
    "unknown type": pb.Values(types=b"\x63"),
    "fewer payloads": pb.Values(types=b"\x06"),
    "more payloads": pb.Values(types=b"\x00", texts=["x"]),
    "bad decimal": pb.Values(types=b"\x04", texts=["1e5x"]),
    "nan decimal": pb.Values(types=b"\x04", texts=["NaN"]),
    "1001 digits": pb.Values(types=b"\x04", texts=["9" * 1001]),
    "scalar json": pb.Values(types=b"\x09", texts=["1"]),
    "broken json": pb.Values(types=b"\x09", texts=["{"]),
    "deep json": pb.Values(types=b"\x09", texts=["[" * 200 + "]" * 200]),
    "interval": pb.Values(types=b"\x0a", integers=[1]),
    "year 300000": pb.Values(types=b"\x08", integers=[2**62]),
    "two values": encode_values([1, 2]),
    "no value": pb.Values(),
}


@pytest.mark.parametrize("values", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("mode", [PUT, UPSERT])
def test_malformed_values(admin: Wire, values: pb.Values, mode: int) -> None:
    admin.execute(put([("here", 1)]))
    error = admin.refusal(request(write=pb.WriteCommand(mode=mode, keys=["a"], values=values)))
    assert error.sqlstate in ("22023", "22P02", "22003", "54001")
    assert admin.rows(request(list=pb.ListCommand())) == [(1,)]


def test_malformed_writes(admin: Wire) -> None:
    values = encode_values([1, 2])
    for command in (
        pb.WriteCommand(keys=["a", "b"], values=values),
        pb.WriteCommand(mode=PUT, values=pb.Values()),
        pb.WriteCommand(mode=PUT, keys=["a", "b"], values=values, statement_sizes=[1]),
        pb.WriteCommand(mode=PUT, keys=["a", "b"], values=values, statement_sizes=[0, 2]),
        pb.WriteCommand(mode=PUT, keys=["a", "b"], values=values, statement_sizes=[3]),
    ):
        assert admin.refusal(request(write=command)).sqlstate == "22023"
    assert admin.refusal(pb.Request(namespace="shop")).sqlstate == "0A000"


@pytest.mark.parametrize("ttl_ms", [-1, -(2**63), rules.TTL_MS_MAX + 1, 2**63 - 1])
def test_times_to_live(admin: Wire, ttl_ms: int) -> None:
    admin.execute(put([("here", 1)]))
    for command in (
        request(write=write(PUT, [("a", 1)], ttl_ms=ttl_ms)),
        request(expire=pb.ExpireCommand(key="here", ttl_ms=ttl_ms)),
    ):  # fmt: skip
        error = admin.refusal(command)
        assert (error.sqlstate, error.part) == ("22023", pb.PART_TTL)
    assert admin.rows(request(list=pb.ListCommand())) == [(1,)]


def test_update_takes_no_time_to_live(admin: Wire) -> None:
    admin.execute(put([("a", 1)]))
    assert admin.refusal(request(write=write(UPDATE, [("a", 2)], ttl_ms=5))).sqlstate == "22023"


def test_a_comment_has_a_limit(admin: Wire) -> None:
    command = put([("a", 1)])
    command.comment = "ä" * 513
    assert admin.refusal(command).sqlstate == "22023"
    command.comment = "ä" * 512
    admin.execute(command)


def test_a_key_twice_in_one_put(admin: Wire) -> None:
    assert admin.refusal(put([("a", 1), ("a", 2)])).sqlstate == "23505"
    assert admin.refusal(get("a")).sqlstate == "3F000"


def test_words_only(admin: Wire) -> None:
    options = pb.CreateNamespaceCommand(namespace="w", option_names=["values"], option_values=encode_values(["word"]))
    admin.execute(pb.Request(create_namespace=options))
    for mode in (PUT, UPSERT):
        many = [(f"k{i}", "word") for i in range(20)]
        error = admin.refusal(request("w", write=write(mode, [*many, ("x", "two words")])))
        assert (error.sqlstate, error.item, error.part) == ("22023", 21, pb.PART_VALUE)
    admin.execute(put([("a", "word")], "w"))
    assert admin.refusal(request("w", write=write(UPDATE, [("a", "two words")]))).sqlstate == "22023"
    computed = pb.Values(types=b"\x0b")
    computed.expressions.add(steps=[pb.Step(op=pb.OP_CONSTANT)], constants=encode_values(["two words"]))
    assert admin.refusal(request("w", write=pb.WriteCommand(mode=PUT, keys=["e"], values=computed))).sqlstate == "22023"


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_the_bulk_check_agrees_with_the_single_one(key: str) -> None:
    assert not rules.keys_are_valid([key])
    assert not rules.keys_are_valid(["a", key, "b"])
    assert rules.key_error(key, 1) is not None
    assert rules.keys_are_valid(GOOD_KEYS)
    assert all(rules.keys_are_valid([good]) and rules.key_error(good, 1) is None for good in GOOD_KEYS)


def test_the_default_time_to_live_of_a_namespace(admin: Wire) -> None:
    options = pb.CreateNamespaceCommand(
        namespace="d", option_names=["default_ttl"], option_values=encode_values(["1h"])
    )
    admin.execute(pb.Request(create_namespace=options))
    admin.execute(put([("a", 1)], "d"))
    admin.execute(request("d", write=write(PUT, [("b", 1), ("c", 1)], each=True)))
    admin.execute(request("d", write=write(PUT, [("own", 1)], ttl_ms=60_000)))
    select = pb.SelectCommand(namespace="d")
    column = pb.Expression(steps=[pb.Step(op=pb.OP_COLUMN, arity=1)], names=["ttl"])
    select.projections.add(name="ttl", expression=column)
    left = [ttl.total_seconds() for (ttl,) in admin.rows(pb.Request(select=select))]
    assert all(3500 < seconds <= 3600 for seconds in left[:3])
    assert left[3] <= 60
