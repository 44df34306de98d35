"""Changed bits, cuts and zeros anywhere in log, checkpoint and MANIFEST; the long form is ``make soak ONLY=damage``."""

from __future__ import annotations

import pytest

from tests.engine.damage import harm


@pytest.mark.parametrize("seed", range(2))
def test_damage_is_refused_or_cut_but_never_served(seed: int) -> None:
    counts = harm(seed, 2000)
    print(f"seed {seed}: {counts}")
    assert counts.changed > 2500 and counts.refused > 1500 and counts.cut > 100
