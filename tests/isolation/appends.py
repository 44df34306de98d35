"""Is a history of transactions over lists that only grow strictly serializable? (Kingsbury and Alvaro, Elle, 2020.)

Every append is of an element of its own, so a read of a list tells the order of all the writes that it saw, and with it
who came before whom: *ww* from the writer of an element to that of the next, *wr* from the writer of a read's last
element to the reader, *rw* from a reader to the writer of the first element that it did not see, and *rt* from a
transaction that had ended to one that began afterwards. A cycle is an anomaly; its name says which edges it takes:
G0 (ww), G1c (ww, wr), G-single (one rw), G2 (several), with "-realtime" where it needs rt.

What no cycle is needed for is told at once: garbage, duplicates, G1a (a read of what was rolled back), G1b (a read of
a part of what a transaction appended), reads that no order of one list explains, reads that contradict their own
transaction, and lost appends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Literal, NamedTuple

from tests.isolation.graph import Edges, components, cycle, path

WW, WR, RW, RT = 1, 2, 4, 8
_NAMES = {WW: "ww", WR: "wr", RW: "rw", RT: "rt"}

Element = int
Elements = tuple[Element, ...]


class Append(NamedTuple):
    key: str
    element: Element


class Read(NamedTuple):
    key: str
    elements: Elements


@dataclass(slots=True)
class Transaction:
    """What one client did between BEGIN and the end; ``began`` and ``ended`` on one clock for all. A part that
    ROLLBACK TO undid is an aborted transaction of its own."""

    number: int
    began: float
    ended: float = inf
    outcome: Literal["committed", "aborted", "unknown"] = "unknown"
    ops: list[Append | Read] = field(default_factory=list)


class Anomaly(NamedTuple):
    name: str
    text: str


def check(history: Sequence[Transaction]) -> list[Anomaly]:
    """Everything that is wrong with a history; an empty list if it is strictly serializable as far as it shows."""
    return list(Checker(history).anomalies())


class Checker:
    def __init__(self, history: Sequence[Transaction]) -> None:
        self.history = history
        self.writer: dict[tuple[str, Element], Transaction] = {}
        self.last: dict[tuple[int, str], Element] = {}
        """The last element that a transaction appended to a key."""
        self.order: dict[str, Elements] = {}
        self.reads: list[tuple[Transaction, str, Elements]] = []
        """Reads of committed transactions from outside: without what they had appended themselves."""
        for transaction in history:
            for op in transaction.ops:
                if isinstance(op, Append):
                    assert (op.key, op.element) not in self.writer, "an element is appended once in a history"
                    self.writer[op.key, op.element] = transaction
                    self.last[transaction.number, op.key] = op.element

    def anomalies(self) -> Iterator[Anomaly]:
        for transaction in self.history:
            if transaction.outcome != "unknown":
                yield from self._inside(transaction)
        yield from self._orders()
        visible = {(key, element) for key, elements in self.order.items() for element in elements}
        there = [t for t in self.history if self._happened(t, visible)]
        yield from self._lost(there, visible)
        yield from self._cycles(self._edges(there, visible), {t.number: t for t in there})

    # ── one transaction ───────────────────────────────────────────────────────────────────────────────────────

    def _inside(self, transaction: Transaction) -> Iterator[Anomaly]:
        """Its reads agree with each other and with what it appended; the first read of a key comes from outside."""
        known: dict[str, Elements] = {}
        own: dict[str, Elements] = defaultdict(tuple)
        for op in transaction.ops:
            if isinstance(op, Append):
                own[op.key] += (op.element,)
                if op.key in known:
                    known[op.key] += (op.element,)
                continue
            mine = own[op.key]
            if op.key in known:
                if op.elements != known[op.key]:
                    yield self._told("internal", transaction, f"{op.key} was {known[op.key]} and is {op.elements}")
                continue
            known[op.key] = op.elements
            outside = op.elements[: len(op.elements) - len(mine)]
            if op.elements[len(outside) :] != mine:
                yield self._told("internal", transaction, f"{op.key} is {op.elements} after its appends of {mine}")
                continue
            yield from self._from_outside(transaction, op.key, outside)

    def _from_outside(self, transaction: Transaction, key: str, seen: Elements) -> Iterator[Anomaly]:
        if len(set(seen)) != len(seen):
            yield self._told("duplicate", transaction, f"{key} is {seen}")
        for element in seen:
            writer = self.writer.get((key, element))
            if writer is None:
                yield self._told("garbage", transaction, f"{key} holds {element}, which nobody appended")
            elif writer.outcome == "aborted":
                yield self._told("G1a", transaction, f"{key} holds {element} of {writer.number}, which did not commit")
        if seen:
            writer = self.writer.get((key, seen[-1]))
            if writer is not None and writer is not transaction and self.last[writer.number, key] != seen[-1]:
                yield self._told(
                    "G1b", transaction, f"{key} ends with {seen[-1]}, which {writer.number} went on to append to"
                )
        if transaction.outcome == "committed":
            self.reads.append((transaction, key, seen))
        if len(seen) > len(self.order.get(key, ())):
            self.order[key] = seen

    def _told(self, name: str, transaction: Transaction, text: str) -> Anomaly:
        return Anomaly(name, f"transaction {transaction.number} ({transaction.outcome}): {text}")

    # ── all of them ───────────────────────────────────────────────────────────────────────────────────────────

    def _orders(self) -> Iterator[Anomaly]:
        """Every read is a beginning of the longest one."""
        for transaction, key, seen in self.reads:
            if self.order.get(key, ())[: len(seen)] != seen:
                yield self._told("incompatible order", transaction, f"{key} is {seen}, and also {self.order[key]}")

    def _happened(self, transaction: Transaction, visible: set[tuple[str, Element]]) -> bool:
        """Whether it took part: a transaction of unknown outcome did if somebody saw something of it."""
        if transaction.outcome == "unknown":
            return any(isinstance(op, Append) and op in visible for op in transaction.ops)
        return transaction.outcome == "committed"

    def _lost(self, there: list[Transaction], visible: set[tuple[str, Element]]) -> Iterator[Anomaly]:
        """Elements of committed transactions that are missing where they must be: in a read that began later, or in
        the middle of a transaction others of whose elements were seen."""
        latest: dict[str, Transaction] = {}
        for reader, key, _ in self.reads:
            if key not in latest or latest[key].began < reader.began:
                latest[key] = reader
        for transaction in there:
            for op in transaction.ops:
                if isinstance(op, Append) and op not in visible:
                    reader = latest.get(op.key)
                    if reader is not None and transaction.ended < reader.began:
                        yield self._told(
                            "lost", transaction, f"{op.element} is not in {op.key}, which {reader.number} read later"
                        )

    def _edges(self, there: list[Transaction], visible: set[tuple[str, Element]]) -> Edges:
        edges: Edges = {t.number: {} for t in there}

        def edge(a: Transaction | None, b: Transaction | None, kind: int) -> None:
            if a is not None and b is not None and a is not b and a.number in edges and b.number in edges:
                edges[a.number][b.number] = edges[a.number].get(b.number, 0) | kind

        unseen: dict[str, list[Transaction]] = defaultdict(list)
        for transaction in there:
            for op in transaction.ops:
                if isinstance(op, Append) and op not in visible:
                    unseen[op.key].append(transaction)
        for key, elements in self.order.items():
            writers = [self.writer.get((key, element)) for element in elements]
            for before, after in pairwise(writers):
                edge(before, after, WW)
            for later in unseen[key] if writers else ():
                edge(writers[-1], later, WW)
        for reader, key, seen in self.reads:
            order = self.order.get(key, ())
            if seen:
                edge(self.writer.get((key, seen[-1])), reader, WR)
            if len(seen) < len(order):
                # what the reader appended itself comes right after what it saw
                following = next(
                    (w for e in order[len(seen) :] if (w := self.writer.get((key, e))) is not reader), None
                )
                edge(reader, following, RW)
            else:
                for later in unseen[key]:
                    edge(reader, later, RW)
        for before, after in _real_time(there):
            edge(before, after, RT)
        return edges

    def _cycles(self, edges: Edges, by_number: dict[int, Transaction]) -> Iterator[Anomaly]:
        for suffix, extra in (("", 0), ("-realtime", RT)):
            found: set[int] = set()
            for name, mask in (("G0", WW), ("G1c", WW | WR)):
                for component in components(edges, mask | extra):
                    if found.isdisjoint(component):
                        found.update(component)
                        yield self._cycle(name + suffix, edges, cycle(edges, mask | extra, component), by_number)
            for component in components(edges, WW | WR | RW | extra):
                if not found.isdisjoint(component):
                    continue
                found.update(component)
                single = _single(edges, component, WW | WR | extra)
                way = single or cycle(edges, WW | WR | RW | extra, component)
                yield self._cycle(("G-single" if single else "G2") + suffix, edges, way, by_number)
            if found:
                return  # with real time there are only more of the same

    def _cycle(self, name: str, edges: Edges, way: list[int], by_number: dict[int, Transaction]) -> Anomaly:
        steps = []
        for a, b in zip(way, [*way[1:], way[0]], strict=True):
            kinds = "/".join(text for kind, text in _NAMES.items() if edges[a][b] & kind)
            steps.append(f"{a} -{kinds}-> {b}")
        shown = "".join(f"\n    {n}: {by_number[n].ops}" for n in way[:6])
        return Anomaly(name, ", ".join(steps) + shown)


def _single(edges: Edges, component: list[int], mask: int) -> list[int] | None:
    """A cycle with exactly one rw edge, beginning behind it."""
    inside = set(component)
    for a in component:
        for b, kinds in edges[a].items():
            if kinds & RW and b in inside:
                way = path(edges, b, a, mask, inside)
                if way is not None:
                    return way
    return None


def _real_time(there: list[Transaction]) -> Iterator[tuple[Transaction, Transaction]]:
    """(ended, began later), as few as tell all: those that had ended last before each beginning."""
    events = sorted(
        [(t.began, 1, t.number, t) for t in there] + [(t.ended, 0, t.number, t) for t in there if t.ended < inf],
        key=lambda event: event[:3],
    )
    front: list[Transaction] = []
    for _, begins, _, transaction in events:
        if begins:
            yield from ((before, transaction) for before in front)
        else:
            front = [t for t in front if t.ended >= transaction.began]
            front.append(transaction)
