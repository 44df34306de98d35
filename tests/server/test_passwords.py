"""Passwords: what was right once is known, what is wrong costs the same each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from kvql_server import passwords
from kvql_server.passwords import Verifier, hash_password

from kvql import errors
from kvql.errors import Error


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often Argon2 has been asked."""
    calls: list[str | None] = []
    real = passwords.verify

    def verify(password: str, hashed: str | None) -> bool:
        calls.append(hashed)
        return real(password, hashed)

    monkeypatch.setattr(passwords, "verify", verify)
    return lambda: len(calls)


async def test_a_right_password_is_hashed_once(counted: Callable[[], int]) -> None:
    verifier, hashed = Verifier(2, 4), hash_password("correct horse")
    for _ in range(3):
        assert await verifier.verify("correct horse", hashed)
    assert counted() == 1
    verifier.close()


async def test_a_wrong_password_and_an_unknown_user_cost_the_same_each_time(counted: Callable[[], int]) -> None:
    verifier, hashed = Verifier(2, 4), hash_password("correct horse")
    assert await verifier.verify("correct horse", hashed)
    for asked, (password, stored) in enumerate(
        [("wrong", hashed), ("wrong", hashed), ("correct horse", None), ("", None), ("", hashed), ("x" * 2000, hashed)],
        2,
    ):
        assert not await verifier.verify(password, stored)
        assert counted() == asked
    verifier.close()


async def test_a_changed_password_is_not_known(counted: Callable[[], int]) -> None:
    verifier, old, new = Verifier(2, 4), hash_password("old"), hash_password("new")
    assert await verifier.verify("old", old)
    assert not await verifier.verify("old", new)
    assert await verifier.verify("new", new)
    assert counted() == 3
    verifier.close()


async def test_a_full_queue_refuses_only_what_is_not_known() -> None:
    verifier, hashed = Verifier(1, 2), hash_password("correct horse")
    assert await verifier.verify("correct horse", hashed)
    guesses = [asyncio.ensure_future(verifier.verify(f"guess {n}", hashed)) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Error) as refused:
        await verifier.verify("another", hashed)
    assert refused.value.sqlstate == errors.LIMIT
    assert await verifier.verify("correct horse", hashed)
    assert not any(await asyncio.gather(*guesses))
    verifier.close()


async def test_the_known_are_bounded(monkeypatch: pytest.MonkeyPatch, counted: Callable[[], int]) -> None:
    monkeypatch.setattr(Verifier, "KNOWN_MAX", 2)
    verifier, hashes = Verifier(1, 2), [hash_password(str(n)) for n in range(3)]
    for n in (0, 1, 0, 2, 0, 1):  # 1 goes when 2 comes, because 0 was used after it
        assert await verifier.verify(str(n), hashes[n])
    assert counted() == 4
    verifier.close()
