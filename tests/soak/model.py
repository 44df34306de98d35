"""Both engines against dictionaries that copy everything, with many more and longer runs than a test has time for."""

from __future__ import annotations

from tests.engine.test_model import StoreAgainstModel
from tests.soak.machine import run


def soak(seconds: float, seed: int) -> str:
    return run(StoreAgainstModel, seconds, seed)
