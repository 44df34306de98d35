"""Which line of a file an offset is on, while the file streams by in chunks.

Results come in the order of the statements, so what lies before the last one answered is dropped: memory is bounded by
what is in flight.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final

from kvql import errors
from kvql.span import Position

CHUNK_BYTES: Final = 1 << 18


class Places:
    """Hands chunks through and remembers where they stood."""

    def __init__(self, chunks: Iterator[str]) -> None:
        self._chunks = chunks
        self._kept: deque[tuple[int, str]] = deque()
        self._end = 0
        self._line = 1  # of the first kept chunk's first character
        self._column = 1

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            self._kept.append((self._end, chunk))
            self._end += len(chunk)
            yield chunk

    def release(self, offset: int) -> None:
        """Nobody will ask for a place before ``offset`` (code points from the start) again."""
        while len(self._kept) > 1 and self._kept[1][0] <= offset:
            self._pass(self._kept.popleft()[1])

    def _pass(self, chunk: str) -> None:
        lines = chunk.count("\n")
        self._line += lines
        self._column = len(chunk) - chunk.rfind("\n") if lines else self._column + len(chunk)

    def at(self, offset: int) -> Position:
        """The place of ``offset``, for people; offsets may only grow."""
        self.release(offset)
        if not self._kept:
            return Position(self._line, self._column)
        start, chunk = self._kept[0]
        before = chunk[: offset - start]
        lines = before.count("\n")
        if lines:
            return Position(self._line + lines, len(before) - before.rfind("\n"))
        return Position(self._line, self._column + len(before))


def decoded(file: BinaryIO) -> Iterator[str]:
    """The chunks of a UTF-8 file as they come, without its byte-order mark; 42601 names a bad byte's place."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done, lines = 0, 0
    read = getattr(file, "read1", file.read)
    first = True
    while True:
        data = read(CHUNK_BYTES)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as e:
            yield from _valid_part(e)
            good = bytes(e.object[: e.start])
            raise errors.error(
                errors.SYNTAX,
                f"not valid UTF-8: byte 0x{e.object[e.start]:02x} in line {lines + good.count(10) + 1}, "
                f"at offset {done - pending + e.start}",
                hint="save the file as UTF-8",
            ) from None
        done += len(data)
        lines += data.count(b"\n")
        if first and text:
            first = False
            text = text.removeprefix("\ufeff")
        if text:
            yield text
        if not data:
            return


def _valid_part(failure: UnicodeDecodeError) -> Iterator[str]:
    """What stands before the bad byte: its statements are carried out like those before any other error."""
    text = bytes(failure.object[: failure.start]).decode()
    if text:
        yield text
