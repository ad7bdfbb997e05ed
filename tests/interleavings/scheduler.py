"""One run of a scenario under one schedule: tasks, the baton, and the choices that are the schedule.

Each task has a worker, a real thread that sleeps on its own raw lock. Only the holder of the baton
runs; at a switch point it decides who goes on, releases that worker's lock and acquires its own. So
there is no scheduler thread, and every field here is guarded by the baton: whoever runs may write.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from typing import Optional

from ..support import FREE_THREADED
from .monitor import Monitor
from .places import place_of
from .tracer import Tracer
from .worker import Task, Teardown, Worker, raise_if_any

RUN, EXPIRE, INTERRUPT = "goes on", "times out", "is interrupted"
PATIENCE = 60.0  # real seconds without an end after which a run counts as an endless loop
MAX_STEPS = 20_000  # points after which it does


class Scheduler:
    """Runs tasks one at a time; `choices` says which option to take at each decision, then 0."""

    def __init__(self) -> None:
        self.tracer = Tracer(self) if sys.version_info < (3, 12) else Monitor(self)
        self.workers: list[Worker] = []
        self.current: Optional[Task] = None  # the holder of the baton; None: the driver
        self.log: Optional[list[str]] = None
        self._over = threading.Lock()  # held while a run is under way
        self._over.acquire()
        self.begin((), 0, 0)

    # -- set-up and end, by the driver -------------------------------------------------------------

    def begin(
        self,
        choices: tuple[int, ...],
        preemptions: int,
        interrupts: int,
        *,
        pick: Optional[Callable[[int, bool], int]] = None,
        victims: Optional[frozenset[int]] = None,
        exception: type[BaseException] = KeyboardInterrupt,
    ) -> None:
        """Forget the last run and prepare the next."""
        self.choices = choices
        self.taken: list[tuple[int, int]] = []  # (option chosen, number of options) per decision
        self.steps = 0
        self.failure: Optional[str] = None
        self.error: Optional[BaseException] = None
        self.now = self._collected_at = 1000.0
        self.live: list[Task] = []
        self.ending = False
        self.interruptible = interrupts > 0
        self._left = preemptions
        self._interrupts = interrupts
        self._pick = pick
        self._victims = victims
        self._exception = exception
        self._bodies = 0
        self._spawned = 0

    def spawn(self, body: Callable[[], object], name: str, daemon: bool = False, is_body: bool = False) -> Task:
        """Add a task; it runs from when it is first chosen."""
        if self._spawned == len(self.workers):
            self.workers.append(Worker(self, self._spawned))
        worker = self.workers[self._spawned]
        victim = self._victims is None or (is_body and self._bodies in self._victims)
        worker.task = task = Task(name, body, worker, daemon, victim)
        self._spawned += 1
        self._bodies += is_body
        self.live.append(task)
        return task

    def run(self) -> None:
        """Run the tasks to their end, or to the first failure; leaves no task behind."""
        try:
            if self.live:
                self._leave()
                self._wait()
        except Teardown:
            pass  # the very first choice failed
        finally:
            self.ending = True
            for task in list(self.live):
                self.current = task
                task.worker.baton.release()
                self._wait()
            self.current = None
            self.ending = False

    def _wait(self) -> None:
        if self._over.acquire(timeout=PATIENCE):
            return
        running = self.current or self.live[0]
        self.fail(f"endless loop: {running.name} came to no switch point within {PATIENCE} s")
        identity = ctypes.c_ulong(running.worker.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(Teardown))
        if not self._over.acquire(timeout=PATIENCE):
            self.workers = []  # its thread is beyond reach: start afresh with others
            self.live = []
            raise RuntimeError(f"{running.name} cannot be ended")

    # -- points, by the holder of the baton --------------------------------------------------------

    def trace(self) -> None:
        """Trace the calling thread from here on, if there is anything left to choose."""
        if self._left or self._interrupts:
            self.tracer.start()

    def before(self) -> None:
        """A switch point in an operation of a stand-in, unless the opcode calling it was one."""
        task = self.current
        if task is None:
            return
        if task.fresh:
            task.fresh = False
        else:
            self.point(True, False)

    def after(self) -> None:
        """What CPython does after the call into C that the operation stands for."""
        if self.interruptible:
            raise_if_any(self.point(False, True))

    def point(self, switch: bool, deliver: bool) -> Optional[BaseException]:
        """Let another task run here, if that is the choice; what to raise here, if that is it."""
        me = self.current
        if me is None or self.ending:
            return None
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.fail(f"no end within {MAX_STEPS} steps")
            raise Teardown
        if not (self._left or self._interrupts):
            self.tracer.stop()  # nothing is left to choose but at waits
            return None
        options = [(me, RUN)]
        if switch and self._left:
            for task in self.live:
                if task is not me:
                    if task.ready:
                        options.append((task, RUN))
                    if task.deadline is not None:
                        options.append((task, EXPIRE))
        if deliver and self._interrupts and me.victim:
            options.append((me, INTERRUPT))
        if switch:
            options += self._interruptible_waits()
        chosen = self._choose(len(options), False) if len(options) > 1 else 0
        return self._take_up(*options[chosen]) if chosen else None

    def _take_up(self, task: Task, action: str) -> Optional[BaseException]:
        """Follow a choice to do anything but go on."""
        if action is INTERRUPT and task is self.current:
            self._note(task, action)
            return self._interruption()
        self._left -= action is not INTERRUPT
        self._hand_over(task, action)
        if not (self._left or self._interrupts):
            self.tracer.stop()
        return None

    def block(self, over: Callable[[], bool], timeout: Optional[float]) -> bool:
        """Wait until `over()`; False if the time ran out instead."""
        me = self.current
        if me is None:
            if timeout is None:
                raise AssertionError("would wait for ever: no task is running")
            self.now += timeout
            return False
        if self.ending:
            raise Teardown
        if timeout is not None and timeout <= 0:
            return False
        me.wait = over
        me.deadline = None if timeout is None else self.now + timeout
        me.interrupted = me.expired = False
        self._leave()
        if me.interrupted:
            raise self._interruption()
        return not me.expired

    def judge(self, task: Task, error: BaseException) -> None:
        """Say whether the error that ended a task is a failure."""
        if not self._is_injected(error):
            self.error = self.error or error
            self.fail(f"{task.name} raised {error!r}")

    def judge_unraisable(self, error: BaseException, source: object) -> None:
        """The same for an error that a finalizer raised; nobody could catch it."""
        if not self._is_injected(error):
            self.error = self.error or error
            self.fail(f"{source!r} raised {error!r}")

    def finish(self, task: Task) -> None:
        """The end of a task: pass the baton on, or end the run."""
        task.done = True
        self.live.remove(task)
        if not self.ending and any(not other.daemon for other in self.live):
            with contextlib.suppress(Teardown):  # a deadlock of the others
                self._leave()
                return
        self.ending = True
        self.current = None
        self._over.release()

    # -- choices -----------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Choose who runs next when the holder of the baton cannot."""
        ready = [(task, RUN) for task in self.live if task.ready]
        timed = [(task, EXPIRE) for task in self.live if task.deadline is not None]
        timed.sort(key=lambda option: option[0].deadline or 0.0)
        options = ready + (timed if self._left else timed[: not ready])
        # A time-out is free only if nothing else can happen; else what ticks would tick for ever.
        free = len(ready) or 1
        if not options:
            self.fail("deadlock: nobody can run")
            raise Teardown
        options += self._interruptible_waits()
        chosen = self._choose(len(options), True) if len(options) > 1 else 0
        task, action = options[chosen]
        self._left -= action is not INTERRUPT and chosen >= free
        self._hand_over(task, action)

    def _interruptible_waits(self) -> list[tuple[Task, str]]:
        if not self._interrupts:
            return []
        return [(task, INTERRUPT) for task in self.live if task.victim and task.wait is not None]

    def _hand_over(self, task: Task, action: str) -> None:
        me = self.current
        self._note(task, action)
        task.expired = action is EXPIRE
        task.interrupted = action is INTERRUPT
        if task.expired:
            self.now = max(self.now, task.deadline or 0.0)
            if FREE_THREADED and self.now - self._collected_at > 5.0:
                self._collected_at = self.now
                gc.collect()  # as in time it happens: it drops what threads have left to others to drop
        task.wait = task.deadline = None
        if task is me:
            return
        self.current = task
        task.worker.baton.release()
        if me is not None and not me.done:
            me.worker.baton.acquire()
            if self.ending:
                raise Teardown

    def _choose(self, count: int, free: bool) -> int:
        number = len(self.taken)
        chosen = self._pick(count, free) if self._pick else 0
        if number < len(self.choices):
            chosen = self.choices[number]
        if chosen >= count:
            self.fail(f"not reproducible: decision {number} has {count} options, not {chosen + 1}")
            raise Teardown
        self.taken.append((chosen, count))
        return chosen

    def _interruption(self) -> BaseException:
        """A new one each time, kept by nobody, so that it keeps nothing alive."""
        self._interrupts -= 1
        return self._exception("injected")

    def _is_injected(self, error: BaseException) -> bool:
        injected = isinstance(error, self._exception) and error.args == ("injected",)
        return injected or isinstance(error, Teardown)

    # -- reports -----------------------------------------------------------------------------------

    def fail(self, message: str) -> None:
        """End the run as a failure; the first one counts."""
        if self.failure is None:
            frames = sys._current_frames()
            places = (place_of(frames.get(task.worker.thread.ident or 0)) for task in self.live)
            told = (f"{task.name} at {place}" for task, place in zip(self.live, places))
            self.failure = "; ".join([message, *told])
        self.ending = True

    def _note(self, task: Task, action: str) -> None:
        if self.log is None:
            return
        me, stops = self.current, ""
        if me is not None and (me is not task or action is INTERRUPT):
            place = "ended" if me.done else f"stops at {place_of(sys._getframe())}"
            stops = f"{me.name} {place}, "
        self.log.append(f"{stops}{task.name} {action}")
