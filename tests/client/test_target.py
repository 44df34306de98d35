"""What users may write for TARGET, and what they are told if they write something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvql import errors
from kvql.client.opening import ca_of
from kvql.transport.target import Target, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (":memory:", Target("memory", ":memory:")),
        ("data/shop", Target("folder", "data/shop")),
        ("./kvql", Target("folder", "./kvql")),
        ("/tmp/a b", Target("folder", "/tmp/a b")),
        ("kvql+file:data/shop?ns=orders", Target("folder", "data/shop", namespace="orders")),
        ("kvql://localhost", Target("server", "localhost")),
        ("kvql://ann@localhost:7000/shop", Target("server", "localhost", 7000, "ann", None, "shop")),
        ("kvql://ann%40example.com:p%2Fw@h/", Target("server", "h", 7443, "ann@example.com", "p/w")),
        ("kvql://[::1]:9/n", Target("server", "::1", 9, None, None, "n")),
        ("KVQL://LOCALHOST", Target("server", "localhost")),
        ("kvql+unix:///run/k.sock", Target("unix", "/run/k.sock")),
        ("kvql+unix://ann@/run/k.sock?ns=shop", Target("unix", "/run/k.sock", user="ann", namespace="shop")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "http://localhost", "kvql://", "kvql:///ns", "kvql://h:port", "kvql://h:99999", "kvql://h/a/b", "kvql://h/a?x=1",
     "localhost:7443", "db.example.com:7443/shop", "kvql+unix://host/sock", "kvql+unix:///s?nss=1", "kvql+file:"],
)  # fmt: skip
def test_what_cannot_be_meant(text: str) -> None:
    with pytest.raises(errors.OperationalError) as caught:
        parse_target(text)
    assert caught.value.sqlstate == "08001" and caught.value.hint


def test_a_password_is_never_in_a_message() -> None:
    with pytest.raises(errors.Error) as caught:
        parse_target("kvql://ann:secret@h/a/b")
    assert "secret" not in str(caught.value)


def test_a_path_is_a_folder() -> None:
    assert parse_target(Path("localhost:7443")) == Target("folder", "localhost:7443")


def test_the_ca_beside_us_is_for_this_machine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KVQL_CA", raising=False)
    here, far = parse_target("kvql://127.0.0.1"), parse_target("kvql://db.example.com")
    assert ca_of(here, None) is None
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/ca.pem").write_text("x")
    assert ca_of(here, None) == "certs/ca.pem" and ca_of(far, None) is None
    monkeypatch.setenv("KVQL_CA", "other.pem")
    assert ca_of(far, None) == "other.pem" and ca_of(here, "mine.pem") == "mine.pem"
