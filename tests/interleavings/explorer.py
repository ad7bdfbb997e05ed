"""Runs a scenario under every schedule of its threads, up to a bound on preemptions.

The idea is CHESS (M. Musuvathi and S. Qadeer, "Iterative context bounding for systematic testing of
multithreaded programs", PLDI 2007; Musuvathi et al., "Finding and reproducing Heisenbugs in
concurrent programs", OSDI 2008): take over the scheduler, search its choices depth first by running
the program again for each schedule, and bound only the preemptions, since nearly all faults need no
more than two. A switch where a thread ends or has to wait is free. A time-out that comes although
somebody could still run counts as a preemption.

A scenario is a function that builds everything anew and returns the bodies of the threads and a
final check::

    def two_takers_and_a_putter():
        queue = LifoSlotQueue()
        taken = []
        def take():
            taken.append(queue.get(timeout=1.0))
        def check():
            assert sorted(taken + list(queue.queue)) == [1, 2]
        return [take, take, lambda: [queue.put(1), queue.put(2)]], check

    explore(two_takers_and_a_putter, [slotqueue]).assert_holds()

- The second argument names the modules under test. Their opcodes are the switch points, and what
  they imported from `threading`, `_thread` and `time` is patched for the time of the call. A class of
  the standard library that uses locks needs ``with patched(queue):`` around the call. Pass
  ``clock=clock`` where a clock is a default argument.
- Everything else (the scenario, the standard library) runs without a switch between two operations
  of stand-ins. The scenario may use `Lock`, `Event`, `Thread`, `sleep`, `clock` and `pause`
  (a point of its own) of `standins`; the real ones would block the run.
- A run fails when a body raises, a finalizer raises, nobody can run (deadlock), it does not end, or
  the check raises. A body that may fail catches what it expects. Threads that the code starts
  itself take part; daemons are not awaited.
- No randomness, no real time, nothing that depends on `id()` or on an earlier run: a schedule must
  replay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Callable

from .patching import patched
from .report import Failure, Report, Schedule
from .standins import scheduler

Scenario = Callable[[], "tuple[Sequence[Callable[[], object]], Callable[[], object]]"]
Pick = Callable[[int, bool], int]
_COLLECT_EVERY = 500  # runs between two garbage collections, which must not happen inside of a run
# How often a walk switches: no one rate finds everything, and what few switches find is read easily.
_RATES = (0.01, 0.03, 0.1, 0.3)


def explore(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    *,
    preemptions: int = 2,
    limit: int | None = None,
    max_failures: int = 1,
    every_opcode: bool = False,
) -> Report:
    """Run every schedule with at most `preemptions` preemptions, until `max_failures` have failed.

    At most `limit` schedules are run. `every_opcode` makes each opcode of the modules `under_test` a
    switch point, not only those on shared state.
    """
    base = Schedule(preemptions=preemptions, every_opcode=every_opcode)
    return _search(scenario, under_test, base, limit, max_failures)


def explore_interrupts(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    *,
    exception: type[BaseException] = KeyboardInterrupt,
    victims: tuple[int, ...] | None = None,
    preemptions: int = 0,
    limit: int | None = None,
    max_failures: int = 1,
) -> Report:
    """Do the same, and in each schedule raise `exception` once, wherever CPython may deliver one.

    That is at the entry of a function, after a call into C, after a jump backwards, and in any wait
    for a lock (only a signal ends that). `victims` are the numbers of the bodies that may be hit;
    None: all threads. The exception may leave the body; the check says what must hold then.
    """
    base = Schedule((), preemptions, 1, victims, exception=exception)
    return _search(scenario, under_test, base, limit, max_failures)


def walk(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    *,
    seed: int,
    schedules: int,
    base: Schedule | None = None,
    max_failures: int = 1,
) -> Report:
    """Run random schedules without a bound on preemptions; the same `seed` runs the same ones.

    `base` says what else makes up a schedule: its interrupts and victims.
    """
    dice = random.Random(seed)
    base = dataclasses.replace(base or Schedule(), preemptions=sys.maxsize)
    failures: list[Failure] = []
    started_at, count = time.perf_counter(), 0
    with _aimed(under_test, base):
        while count < schedules and len(failures) < max_failures:
            rate = _RATES[count * len(_RATES) // schedules]
            count += 1
            failure = _run(scenario, base, _random_pick(dice, rate))
            if failure is not None:
                failures.append(_told(scenario, failure))
            _collect(count)
    return Report(count, False, tuple(failures), time.perf_counter() - started_at)


def replay(scenario: Scenario, under_test: Sequence[ModuleType], schedule: Schedule) -> Failure | None:
    """Run one schedule again; the failure, with its switches told, or None if it passes."""
    with _aimed(under_test, schedule):
        failure = _run(scenario, schedule)
        return failure and _told(scenario, failure)


def _random_pick(dice: random.Random, rate: float) -> Pick:
    def pick(options: int, free: bool) -> int:
        if free:
            return dice.randrange(options)
        return dice.randrange(1, options) if dice.random() < rate else 0

    return pick


def _search(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    base: Schedule,
    limit: int | None,
    max_failures: int,
) -> Report:
    failures: list[Failure] = []
    started_at, count = time.perf_counter(), 0
    path: list[tuple[int, int]] = []  # (option, number of options) of each decision before
    with _aimed(under_test, base):
        while True:
            count += 1
            prefix = tuple(chosen for chosen, _ in path)
            failure = _run(scenario, dataclasses.replace(base, choices=prefix))
            if failure is not None:
                failures.append(_told(scenario, failure))
            _assert_same(path, scheduler.taken)
            path = scheduler.taken
            while path and path[-1][0] + 1 == path[-1][1]:
                path.pop()
            if not path or count == limit or len(failures) == max_failures:
                break
            path[-1] = (path[-1][0] + 1, path[-1][1])
            _collect(count)
    return Report(count, not path, tuple(failures), time.perf_counter() - started_at)


def _assert_same(prefix: list[tuple[int, int]], taken: list[tuple[int, int]]) -> None:
    if taken[: len(prefix)] != prefix:
        raise RuntimeError("the scenario is not deterministic: the same choices led elsewhere")


def _run(scenario: Scenario, schedule: Schedule, pick: Pick | None = None) -> Failure | None:
    scheduler.begin(
        schedule.choices,
        schedule.preemptions,
        schedule.interrupts,
        pick=pick,
        victims=None if schedule.victims is None else frozenset(schedule.victims),
        exception=schedule.exception,
    )
    bodies, check = scenario()
    for number, body in enumerate(bodies):
        scheduler.spawn(body, f"{getattr(body, '__name__', 'body')}-{number}", is_body=True)
    scheduler.run()
    message, error = scheduler.failure, scheduler.error
    if message is None:
        try:
            check()
        except Exception as raised:
            message, error = f"the check raised {raised!r}", raised
    if message is None:
        return None
    choices = [chosen for chosen, _ in scheduler.taken]
    while choices and not choices[-1]:
        choices.pop()
    message = re.sub(r" at 0x\w+", "", message)  # no two runs have the same addresses
    return Failure(message, dataclasses.replace(schedule, choices=tuple(choices)), error)


def _told(scenario: Scenario, failure: Failure) -> Failure:
    """The same failure with its switches, from a second run, which must fail in the same way."""
    taken = scheduler.taken
    scheduler.log = []
    try:
        again = _run(scenario, failure.schedule)
        switches = tuple(scheduler.log)
    finally:
        scheduler.log = None
        scheduler.taken = taken
    if again is None or again.message != failure.message:
        raise RuntimeError(f"the scenario is not deterministic: {failure} became {again}")
    return dataclasses.replace(failure, switches=switches)


def _collect(count: int) -> None:
    if count % _COLLECT_EVERY == 0:
        gc.collect()


@contextlib.contextmanager
def _aimed(under_test: Sequence[ModuleType], schedule: Schedule) -> Iterator[None]:
    """Trace and patch these modules; keep the collector out; count finalizers' errors as failures."""
    files = frozenset(str(module.__file__) for module in under_test)
    scheduler.tracer.aim(files, schedule.every_opcode, schedule.interrupts > 0)
    gc.collect()
    gc.freeze()  # so that the collections between runs look at what the runs made alone
    collecting, hook = gc.isenabled(), sys.unraisablehook
    gc.disable()
    sys.unraisablehook = _on_unraisable
    try:
        with patched(*under_test):
            yield
    finally:
        sys.unraisablehook = hook
        scheduler.tracer.leave()
        gc.unfreeze()
        gc.collect()
        if collecting:
            gc.enable()


def _on_unraisable(unraisable: Any) -> None:
    scheduler.judge_unraisable(unraisable.exc_value, unraisable.object)
