"""Which keys a condition can be true for: what lets a statement read only the pairs in question (LANGUAGE §5)."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvql_server.catalog import prefix_end


class Path(NamedTuple):
    """A superset of the keys that satisfy a condition: ``keys`` if they are known one by one, else [start, end).

    ``exact``: every key of it satisfies the condition, so nothing is left to check.
    """

    keys: frozenset[str] | None = None
    start: str = ""
    end: str | None = None
    exact: bool = False

    @property
    def name(self) -> str:
        """As EXPLAIN calls it."""
        if self.keys is not None:
            return ("empty", "point")[len(self.keys)] if len(self.keys) < 2 else "multi-point"
        if not self.start:
            return "full" if self.end is None else "range"
        return "prefix" if self.end == prefix_end(self.start) else "range"

    def holds(self, key: str) -> bool:
        if self.keys is not None:
            return key in self.keys
        return key >= self.start and (self.end is None or key < self.end)


FULL: Final = Path()
EMPTY: Final = Path(frozenset(), exact=True)


def point(*keys: str) -> Path:
    return Path(frozenset(keys), exact=True)


def prefix(text: str, *, exact: bool) -> Path:
    return Path(None, text, prefix_end(text), exact)


def intersect(a: Path, b: Path) -> Path:
    """Of AND."""
    exact = a.exact and b.exact
    if a.keys is not None or b.keys is not None:
        points, other = (a, b) if a.keys is not None else (b, a)
        assert points.keys is not None
        return Path(frozenset(filter(other.holds, points.keys)), exact=exact)
    end = a.end if b.end is None else b.end if a.end is None else min(a.end, b.end)
    start = max(a.start, b.start)
    return EMPTY if end is not None and end <= start else Path(None, start, end, exact)


def unite(a: Path, b: Path) -> Path:
    """Of OR. Two ranges become the range around them, unless all is known key by key."""
    if a.keys is not None and b.keys is not None:
        return Path(a.keys | b.keys, exact=a.exact and b.exact)
    if a.keys is not None or b.keys is not None:
        points, other = (a, b) if a.keys is not None else (b, a)
        assert points.keys is not None
        if not points.keys:
            return other
        around = Path(None, min(points.keys), max(points.keys) + "\0")
        return unite(around, other)._replace(exact=False)
    end = None if a.end is None or b.end is None else max(a.end, b.end)
    return Path(None, min(a.start, b.start), end)


def compared(operator: str, constant: object) -> Path:
    """Of ``key OPERATOR constant``. Across types ``=`` is FALSE and the orderings are NULL: no key satisfies either."""
    if not isinstance(constant, str):
        return EMPTY
    if operator == "=":
        return point(constant)
    if operator == "<":
        return Path(None, "", constant, True)
    if operator == "<=":
        return Path(None, "", constant + "\0", True)
    if operator == ">":
        return Path(None, constant + "\0", None, True)
    return Path(None, constant, None, True)
