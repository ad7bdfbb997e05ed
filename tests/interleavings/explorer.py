"""Runs a scenario under every schedule of its threads, up to a bound on preemptions.

The idea is CHESS (M. Musuvathi and S. Qadeer, "Iterative context bounding for systematic testing of multithreaded
programs", PLDI 2007; Musuvathi et al., "Finding and reproducing Heisenbugs in concurrent programs", OSDI 2008):
take over the scheduler, search its choices depth first by running the program again for each schedule, and bound
only the preemptions, since nearly all faults need no more than two. A switch where a thread ends or has to wait is
free. A time-out that comes although somebody could still run counts as a preemption.

How to write a scenario for real code
-------------------------------------
A scenario is a function that builds everything anew and returns the bodies of the threads and a final check::

    def two_takers_and_a_putter():
        queue = LifoSlotQueue()
        taken = []
        def take():
            taken.append(queue.get(timeout=1.0))
        def check():
            assert sorted(taken + list(queue.queue)) == [1, 2]
        return [take, take, lambda: [queue.put(1), queue.put(2)]], check

    def test_no_wake_up_is_lost():
        assert_holds(explore(two_takers_and_a_putter, [slotqueue]))

- The second argument names the modules under test. Their opcodes are the switch points, and what they imported from
  `threading`, `_thread` and `time` is patched for the time of the call. A class of the standard library that uses
  locks needs ``with patched(queue):`` around the call. Pass ``clock=clock`` where a clock is a default argument.
- Everything else (the scenario, the standard library) runs without a switch between two operations of stand-ins.
  The scenario may use `Lock`, `Event`, `Thread`, `sleep` and `clock` from here; the real ones would block the run.
- A run fails when a body raises, a finalizer raises, nobody can run (deadlock), it does not end, or the check raises.
  A body that may fail catches what it expects. Threads that the code starts itself take part; daemons are not awaited.
- No randomness, no real time, nothing that depends on `id()` or on an earlier run: a schedule must replay.
- Three threads of one or two operations each are enough; the schedules grow with the square of their points. Use
  `walk` for more. Interrupts: `explore_interrupts`; the exception may leave the body, the check says what must hold.
"""

import contextlib
import dataclasses
import gc
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Optional

from .patching import patched
from .standins import Condition, Event, Lock, RLock, Thread, clock, scheduler, sleep

__all__ = [
    *("Condition", "Event", "Lock", "RLock", "Thread", "clock", "patched", "sleep"),
    *(
        "Failure",
        "Result",
        "Scenario",
        "Schedule",
        "assert_holds",
        "explore",
        "explore_interrupts",
        "replay",
        "walk",
    ),
]

Scenario = Callable[[], "tuple[Sequence[Callable[[], object]], Callable[[], object]]"]
Pick = Callable[[int, bool], int]
_COLLECT_EVERY = 500  # runs between two garbage collections, which must not happen inside of a run


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What reproduces one run: the option taken at each decision (0 beyond the end), and what made up the options."""

    choices: "tuple[int, ...]" = ()
    preemptions: int = 2
    interrupts: int = 0
    victims: "Optional[tuple[int, ...]]" = None
    anywhere: bool = False
    every_opcode: bool = False
    exception: "type[BaseException]" = KeyboardInterrupt


@dataclasses.dataclass(frozen=True)
class Failure:
    """One failing run."""

    message: str
    schedule: Schedule
    error: Optional[BaseException] = dataclasses.field(compare=False)
    switches: "tuple[str, ...]" = ()

    def __str__(self) -> str:
        return "\n".join(
            [
                self.message,
                *(f"  {switch}" for switch in self.switches),
                f"  replay with {self.schedule}",
            ]
        )


@dataclasses.dataclass(frozen=True)
class Result:
    """What an exploration found; `complete` if every schedule within the bounds was run."""

    schedules: int
    complete: bool
    failures: "tuple[Failure, ...]"
    seconds: float

    def __str__(self) -> str:
        kind = "all" if self.complete else "not all"
        head = f"{self.schedules} schedules ({kind}) in {self.seconds:.1f} s, {len(self.failures)} failed"
        return "\n".join([head, *map(str, self.failures)])


def assert_holds(result: Result) -> Result:
    """Raise AssertionError, with the schedules that failed, unless every schedule was run and none failed."""
    if result.failures:
        raise AssertionError(str(result)) from result.failures[0].error
    assert result.complete, str(result)
    return result


def explore(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    *,
    preemptions: int = 2,
    max_schedules: Optional[int] = None,
    max_failures: int = 1,
    every_opcode: bool = False,
) -> Result:
    """Run every schedule with at most `preemptions` preemptions, until `max_failures` have failed.

    `every_opcode` makes each opcode of the modules `under_test` a switch point, not only those on shared state.
    """
    base = Schedule(preemptions=preemptions, every_opcode=every_opcode)
    return _search(scenario, under_test, base, max_schedules, max_failures)


def explore_interrupts(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    *,
    exception: "type[BaseException]" = KeyboardInterrupt,
    victims: "Optional[tuple[int, ...]]" = None,
    anywhere: bool = False,
    preemptions: int = 0,
    max_schedules: Optional[int] = None,
    max_failures: int = 1,
) -> Result:
    """Do the same, and in each schedule raise `exception` once, at each point where CPython may deliver it.

    Those are the entry of a function, the opcode after a call into C and after a jump backwards, and any wait for a
    lock (only a signal ends that). `anywhere` takes every opcode of the modules `under_test` instead, as CPython 3.9
    does. `victims` are the numbers of the bodies that may be hit; None: all threads.
    """
    base = Schedule((), preemptions, 1, victims, anywhere, exception=exception)
    return _search(scenario, under_test, base, max_schedules, max_failures)


def walk(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    *,
    seed: int,
    schedules: int = 1000,
    interrupts: int = 0,
    max_failures: int = 1,
) -> Result:
    """Run random schedules without a bound on preemptions, for scenarios too big to explore; `seed` repeats them."""
    dice = random.Random(seed)
    base = Schedule(preemptions=sys.maxsize, interrupts=interrupts)
    failures: "list[Failure]" = []
    started_at, count = time.perf_counter(), 0
    with _aimed(under_test, base):
        while count < schedules and len(failures) < max_failures:
            rate = dice.choice((0.01, 0.03, 0.1, 0.3))  # no one rate of switching finds everything

            def pick(options: int, free: bool, rate: float = rate) -> int:
                if free:
                    return dice.randrange(options)
                return dice.randrange(1, options) if dice.random() < rate else 0

            count += 1
            failure = _run(scenario, base, pick)
            if failure is not None:
                failures.append(_told(scenario, failure))
            _collect(count)
    return Result(count, False, tuple(failures), time.perf_counter() - started_at)


def replay(
    scenario: Scenario, under_test: Sequence[ModuleType], schedule: Schedule
) -> Optional[Failure]:
    """Run one schedule again; the failure, with its switches told, or None if it passes."""
    with _aimed(under_test, schedule):
        failure = _run(scenario, schedule)
        return failure and _told(scenario, failure)


def _search(
    scenario: Scenario,
    under_test: Sequence[ModuleType],
    base: Schedule,
    max_schedules: Optional[int],
    max_failures: int,
) -> Result:
    failures: "list[Failure]" = []
    started_at, count = time.perf_counter(), 0
    path: "list[tuple[int, int]]" = []  # (option, number of options) of each decision of the run before
    with _aimed(under_test, base):
        while True:
            count += 1
            failure = _run(
                scenario, dataclasses.replace(base, choices=tuple(chosen for chosen, _ in path))
            )
            if failure is not None:
                failures.append(_told(scenario, failure))
            _assert_same(path, scheduler.taken)
            path = scheduler.taken
            while path and path[-1][0] + 1 == path[-1][1]:
                path.pop()
            if not path or count == max_schedules or len(failures) == max_failures:
                break
            path[-1] = (path[-1][0] + 1, path[-1][1])
            _collect(count)
    return Result(count, not path, tuple(failures), time.perf_counter() - started_at)


def _assert_same(prefix: "list[tuple[int, int]]", taken: "list[tuple[int, int]]") -> None:
    if taken[: len(prefix)] != prefix:
        raise RuntimeError(
            "the scenario is not deterministic: the same choices led to other options than before"
        )


def _run(scenario: Scenario, schedule: Schedule, pick: Optional[Pick] = None) -> Optional[Failure]:
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
    """Trace and patch these modules; keep the collector out; count what finalizers raise as failures."""
    files = frozenset(str(module.__file__) for module in under_test)
    scheduler.tracer.aim(files, schedule.every_opcode, schedule.interrupts > 0)
    collecting, hook = gc.isenabled(), sys.unraisablehook
    gc.collect()
    gc.disable()
    sys.unraisablehook = _on_unraisable
    try:
        with patched(*under_test):
            yield
    finally:
        sys.unraisablehook = hook
        gc.collect()
        if collecting:
            gc.enable()


def _on_unraisable(unraisable: Any) -> None:
    scheduler.judge_unraisable(unraisable.exc_value, unraisable.object)
