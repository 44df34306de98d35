"""Lines and columns of a file that streams by, and bytes that are no UTF-8."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvql_shell.places import Places, decoded

from kvql.errors import Error
from kvql.span import position


@given(st.text("ab\n", max_size=60), st.integers(1, 7), st.data())
def test_places_agree_with_the_whole_text(text: str, size: int, data: st.DataObject) -> None:
    places = Places(iter([text[i : i + size] for i in range(0, len(text), size)]))
    assert "".join(places) == text
    offsets = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    assert [places.at(o) for o in offsets] == [position(text, o) for o in offsets]


def test_passed_chunks_are_dropped() -> None:
    places = Places(f"line {i}\n" for i in range(10_000))
    for i, _ in enumerate(places):
        places.release(i * 6)
    assert len(places._kept) < 5_000
    places.release(1 << 40)
    assert len(places._kept) == 1


def test_a_byte_order_mark_is_dropped_at_the_start_only() -> None:
    assert "".join(decoded(io.BytesIO("\ufeffPUT a \ufeff".encode()))) == "PUT a \ufeff"


def test_a_character_between_two_reads_is_whole() -> None:
    class Dribble(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(1)

    assert "".join(decoded(Dribble("é名🎉".encode()))) == "é名🎉"


def test_a_bad_byte_is_named_by_its_place() -> None:
    chunks = decoded(io.BytesIO(b"PUT a 1;\nPUT b \xff2;"))
    assert next(chunks) == "PUT a 1;\nPUT b "
    with pytest.raises(Error) as caught:
        next(chunks)
    assert caught.value.message == "not valid UTF-8: byte 0xff in line 2, at offset 15"
    assert caught.value.sqlstate == "42601"
