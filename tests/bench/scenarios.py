"""All scenarios, in the order in which they are run and reported, and what ``--only`` chooses of them."""

from __future__ import annotations

from collections.abc import Sequence

from . import aio, bursts, freeze, killed, outage, postgres, scale, startup, sweep, threads, torture, wsgi
from .measure import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *threads.SCENARIOS,
    sweep.SWEEP,
    *bursts.SCENARIOS,
    *scale.SCENARIOS,
    *aio.SCENARIOS,
    *postgres.SCENARIOS,
    killed.KILLED,
    outage.OUTAGE,
    outage.LONG_OUTAGE,
    freeze.FREEZE,
    freeze.DEADLINE,
    torture.TORTURE,
    *wsgi.SCENARIOS,
    *startup.SCENARIOS,
)
CHOICES: dict[str, Sequence[Scenario]] = {
    "must": (*threads.MUST, sweep.SWEEP),
    **{scenario.name: [scenario] for scenario in SCENARIOS},
}
