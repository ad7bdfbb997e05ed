"""A random load on a pool: no lease overlaps another of the same resource, nobody is late, nobody starves.

`QUEUEPOOL_STRESS_SECONDS` says for how many seconds each test runs: 2 by default, 300 before a release.
"""

from __future__ import annotations

import logging
import os

import pytest

from ..support import assert_whole
from .stress import Stress

SECONDS = float(os.environ.get("QUEUEPOOL_STRESS_SECONDS", "2"))

pytestmark = pytest.mark.timeout(60 + 3 * SECONDS)


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("queuepool"), "disabled", True)


def test_under_any_load_leases_never_overlap_and_every_take_ends_by_its_deadline() -> None:
    stress = Stress(seed=1)
    stress.run(SECONDS)
    assert not stress.errors
    assert len(stress.takes) > 100 * SECONDS
    assert not stress.overlaps()
    # 0.1 s is promised. A busy machine may halt any one thread for longer, but not many, nor for long.
    assert len(stress.late(by=0.1)) <= len(stress.takes) * 0.01
    assert not stress.late(by=1.0)
    stress.pool.resize(Stress.CAPACITY)
    stress.pool.recycle()
    assert_whole(stress.pool)
    assert len(stress.pool._slots) == Stress.CAPACITY
    assert len(stress.source.live) == stress.pool.stats().idle


def test_under_a_steady_load_everyone_has_an_equal_share_in_the_order_of_asking() -> None:
    stress = Stress(seed=2, calm=True)
    stress.run(SECONDS)
    assert not stress.errors
    assert not stress.overlaps()
    assert stress.fairness() > 0.9
    assert stress.overtaken(margin=1.0) == 0
