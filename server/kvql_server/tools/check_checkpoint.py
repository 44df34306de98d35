"""Reading a checkpoint whole: every checksum, and whether the columns of its blocks are what a store writes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from kvql.values import Json, Type
from kvql_server.engines import base
from kvql_server.engines.hashtable import checkpoint
from kvql_server.engines.hashtable.checkpoint import Block, Columns, Damaged, Header
from kvql_server.engines.hashtable.files import Reader
from kvql_server.engines.hashtable.store import Store
from kvql_server.tools.findings import Effect, FileLine, Finding, count
from kvql_server.tools.values import why_no_value

_MARKS: Final = frozenset((int(Type.NULL), int(Type.DECIMAL), int(Type.JSON)))


class CheckpointCheck:
    """The checkpoint ``name``. It is refused whole, so the first damage ends the reading."""

    def __init__(self, files: Reader, folder: str, name: str) -> None:
        self.name = name
        self.header: Header | None = None
        self.size = 0
        self.blocks = 0
        self.pairs = 0
        self.steps = 0
        self.finding: Finding | None = None
        self.newer = False
        self._last: tuple[str, str] | None = None  # namespace and key
        try:
            self._read(files, os.path.join(folder, name))
        except base.NewerFormat as e:
            self.newer = True
            self.finding = Finding(name, 0, str(e).removeprefix(f"{os.path.join(folder, name)} "), Effect.REFUSED)
        except FileNotFoundError:
            self.finding = Finding(name, None, "it is missing, though MANIFEST names it", Effect.REFUSED)
        except Damaged as e:
            self.finding = Finding(name, e.offset, e.reason, Effect.REFUSED)
        except OSError as e:
            self.finding = Finding(name, None, f"it cannot be read ({e.strerror})", Effect.REFUSED)

    def line(self) -> FileLine:
        revision = "" if self.header is None else f", revision {self.header.revision}"
        past = f", {count(self.steps, 'step')} of history" if self.steps else ""
        found = f"{count(self.blocks, 'block')}, {count(self.pairs, 'pair')}{past}{revision}"
        return FileLine(self.name, self.size, found)

    def _read(self, files: Reader, path: str) -> None:
        file = files.open(path)
        try:
            self.size = file.size()
            self.header, crc = checkpoint.read_header(file, path)
            for block in checkpoint.read_blocks(file, path, crc):
                self.blocks += 1
                if block.kind == checkpoint.PAIRS:
                    self._block(path, block, self.header.revision)
                    self.pairs += block.members
                elif block.kind == checkpoint.HISTORY:
                    self.steps += block.members
        finally:
            file.close()
        if self.steps:
            # whether steps and pairs fit together shows only when they are put together
            checkpoint.load(files, path, Store())

    def _block(self, path: str, block: Block, newest: int) -> None:
        try:
            columns = checkpoint.decode_block(block.payload)
            refused = _why_unreadable(columns)
        except msgspec.DecodeError as e:
            refused = str(e)
        if refused is not None:
            raise Damaged(path, block.offset, f"a block cannot be read ({refused})")
        why = self._why_out_of_order(columns) or _why_wrong(columns, block.members, newest)
        if why is not None and self.finding is None:
            self.finding = Finding(self.name, block.offset, why, Effect.UNSEEN)
        self._last = (columns.namespace, columns.keys[-1]) if columns.keys else self._last

    def _why_out_of_order(self, columns: Columns) -> str | None:
        namespace, key = self._last or (columns.namespace, None)
        if columns.namespace < namespace:
            return f"namespace {columns.namespace!r} comes after {namespace!r}"
        if columns.namespace > namespace:
            key = None
        for following in columns.keys:
            if key is not None and following <= key:
                return f"key {following!r} comes after {key!r}"
            key = following
        return None


def _why_unreadable(columns: Columns) -> str | None:
    """Why a start would refuse the block."""
    pairs = len(columns.keys)
    if len(columns.values) != pairs or len(columns.revisions) != 8 * pairs or len(columns.which) != 2 * pairs:
        return "its columns differ in length"
    if columns.types and len(columns.types) != pairs:
        return "its columns differ in length"
    if any(number >= len(columns.metas) for number in _numbers("H", columns.which)):
        return "a pair's commit is not there"
    if any(not 0 <= extra[0] < pairs for extra in columns.extras):
        return "more is told of a pair that is not there"
    for mark, value in zip(columns.types, columns.values, strict=False):
        if mark == Type.DECIMAL:
            try:
                Decimal(value)
            except (ArithmeticError, ValueError, TypeError):
                return "a decimal is no number"
    return None


def _why_wrong(columns: Columns, pairs: int, newest: int) -> str | None:
    """Why a store would not have written the block, though it can be read."""
    if pairs != len(columns.keys):
        return f"a block of {pairs} pairs holds {len(columns.keys)}"
    if any(not 0 < revision <= newest for revision in _numbers("q", columns.revisions)):
        return "a pair is newer than its checkpoint"
    if any(version < 1 for _, version, _, _ in columns.extras):
        return "a pair's version is less than 1"
    if not _MARKS.issuperset(columns.types):
        return "a type is marked that needs no mark"
    for value in _values(columns):
        why = why_no_value(value)
        if why is not None:
            return why
    return None


def _values(columns: Columns) -> Iterator[Any]:
    if not columns.types:
        yield from columns.values
        return
    for mark, value in zip(columns.types, columns.values, strict=True):
        if mark == Type.JSON:
            yield Json(value) if type(value) is str else object()
        else:
            yield Decimal(value) if mark == Type.DECIMAL else value


def _numbers(code: str, data: bytes) -> Sequence[int]:
    return struct.unpack(f"<{len(data) // struct.calcsize('<' + code)}{code}", data)
