"""All scenarios, in the order in which they are run and reported."""

from __future__ import annotations

from . import aio, bursts, scale, threads
from .measure import Scenario

SCENARIOS: tuple[Scenario, ...] = (*threads.SCENARIOS, *bursts.SCENARIOS, *scale.SCENARIOS, *aio.SCENARIOS)
