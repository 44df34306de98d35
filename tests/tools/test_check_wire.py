"""Planted breaks of the wire are found; additions are not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("check_wire", ROOT / "tools/check_wire.py")
assert spec is not None and spec.loader is not None
check_wire = importlib.util.module_from_spec(spec)
sys.modules["check_wire"] = check_wire
spec.loader.exec_module(check_wire)

PLANTED = [
    ("string password = 2;", "string password = 3;", "is gone and its number is not reserved"),
    ("string password = 2;", "reserved 2;", "field LoginRequest.password = 2 is gone"),
    ("string password = 2;", "string secret = 2;", "became secret"),
    ("string password = 2;", "bytes password = 2;", "changed its type from string to bytes"),
    ("repeated uint64 cancel = 2;", "uint64 cancel = 2;", "changed between one and many"),
    ("optional uint64 limit = 4;", "uint64 limit = 4;", "changed between optional and plain"),
    ("  oneof command {", "  TextCommand other = 99;\n  oneof order {", "moved into or out of a oneof"),
    ("ON_ERROR_STOP = 1;", "ON_ERROR_HALT = 1;", "became ON_ERROR_HALT"),
    ("ON_ERROR_STOP = 1;", "ON_ERROR_STOP = 2;", "value OnError.ON_ERROR_STOP = 1 is gone"),
    ("  enum Action {", "  enum Deed {\n    A0 = 0;\n  }\n  enum Action {", None),
    ("rpc Logout(", "rpc Leave(", "call Kvql.Logout is gone"),
    ("rpc Select(Request) returns (stream Response)", "rpc Select(Request) returns (Response)", "single and stream"),
    ("rpc Refresh(RefreshRequest)", "rpc Refresh(LoginRequest)", "changed its messages"),
    ("message LogoutReply {}", "message LogoutReply {\n  string note = 1;\n}", None),
    ("package kvql.v1;", "package kvql.v2;", "package kvql.v1 became kvql.v2"),
]


@pytest.mark.parametrize(("old", "new", "expected"), PLANTED)
def test_planted_change(tmp_path: Path, old: str, new: str, expected: str | None) -> None:
    text = check_wire.SOURCE.read_text()
    assert old in text
    before, after = tmp_path / "a/wire.proto", tmp_path / "b/wire.proto"
    for path, content in ((before, text), (after, text.replace(old, new))):
        path.parent.mkdir()
        path.write_text(content)
    found = check_wire.breaks(check_wire.describe(before, before.parent), check_wire.describe(after, after.parent))
    if expected is None:
        assert found == []
    else:
        assert any(expected in line for line in found), found


def test_the_wire_is_compatible_with_the_accepted_one() -> None:
    accepted = check_wire.FileDescriptorProto.FromString(check_wire.ACCEPTED.read_bytes())
    assert check_wire.breaks(accepted, check_wire.describe(check_wire.SOURCE, check_wire.ROOT / "proto")) == []
