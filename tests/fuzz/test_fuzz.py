"""The quick form of ``make fuzz``: a fixed seed and a new one each day."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tests.fuzz import driver


@pytest.mark.parametrize("seed", [1, int(datetime.date.today().strftime("%Y%m%d"))])
def test_only_documented_errors(seed: int, tmp_path: Path) -> None:
    tally = driver.run(1000, seed)
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.fine > 50 and sum(tally.refused.values()) > 50, "the cases no longer reach both sides"
