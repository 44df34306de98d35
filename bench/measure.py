"""Rounds, medians and ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec

P = ParamSpec("P")


@dataclass(frozen=True)
class Figure:
    """One line of a row: our median, and how many times a peer's it is (above 1: faster, or smaller, than the peer)."""

    name: str
    value: float
    unit: str
    peers: dict[str, float] = field(default_factory=dict)
    """A peer's own median, in the same unit."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Median of the ratios round by round; for a rate ours / peer's, for a time or a size peer's / ours."""


def seconds(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work(*args, **kwargs)
    return time.perf_counter() - start


def compare(name: str, unit: str, rounds: list[dict[str, float]], *, more_is_better: bool) -> Figure:
    """``rounds``: a value for ``kvql`` and one for each peer, measured one after the other in each round."""
    ours = [r["kvql"] for r in rounds]
    peers = [p for p in rounds[0] if p != "kvql"]
    ratios = {
        p: statistics.median(r["kvql"] / r[p] if more_is_better else r[p] / r["kvql"] for r in rounds) for p in peers
    }
    medians = {p: statistics.median(r[p] for r in rounds) for p in peers}
    return Figure(name, statistics.median(ours), unit, medians, ratios)
