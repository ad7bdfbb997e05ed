"""Run the benchmark: ``python -m tests.bench [--quick] [--only NAME ...] [--peers NAME ...] [--out FOLDER]``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from . import report
from .measure import run, say
from .scenarios import CHOICES, SCENARIOS

PEERS = sorted({peer for scenario in SCENARIOS for peer in scenario.peers})


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: does everything run?")
    parser.add_argument("--only", nargs="+", choices=CHOICES, metavar="NAME", help=", ".join(CHOICES))
    parser.add_argument("--peers", nargs="+", choices=PEERS, metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default: the scenario's, quick: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the peers")
    parser.add_argument("--out", type=Path, help="folder for bench.txt, bench.rst, bench.json and the pictures")
    parser.add_argument("--cache", type=Path, help="folder that keeps queuepool 1.3.2 (default: fetched anew)")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    if options.cache:
        os.environ["QUEUEPOOL_BENCH_CACHE"] = str(options.cache)
    chosen = SCENARIOS if options.only is None else [each for name in options.only for each in CHOICES[name]]
    results = run(chosen, rounds=options.rounds, quick=options.quick, peers=options.peers, seed=options.seed)
    if options.quick:
        results.notes["quick: one short round shows that everything runs; its verdicts mean nothing"] = ""
    print(report.text(chosen, results))
    if options.out:
        for path in report.write(chosen, results, options.out):
            say(f"wrote {path}")


if __name__ == "__main__":
    main()
