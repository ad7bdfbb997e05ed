"""No program of calls finds a pool in a state that it should not be in.

`QUEUEPOOL_EXAMPLES` says how many programs are tried with each kind of pool, and has them differ from run to run; by
default it is the same 40 each time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import MACHINES

EXAMPLES = os.environ.get("QUEUEPOOL_EXAMPLES")
SETTINGS = settings(
    max_examples=int(EXAMPLES or 40),
    stateful_step_count=50,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", MACHINES)
def test_whatever_is_called_the_pool_stays_whole(kind: str) -> None:
    run_state_machine_as_test(MACHINES[kind], settings=SETTINGS)
