"""One run of a scenario under one schedule: tasks, the baton, and the choices that make the schedule.

Each task has a worker, a real thread that sleeps on its own raw lock. Only the holder of the baton runs; at a switch
point it decides who goes on, releases that worker's lock and acquires its own. So there is no scheduler thread, and
every field here is guarded by the baton: whoever runs may write it.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Optional

from .points import CHECK, HOLD, SWITCH, codes_of, flags_of, stored_names

RUN, EXPIRE, INTERRUPT = "goes on", "times out", "is interrupted"
PATIENCE = 10.0  # real seconds without an end after which a run counts as an endless loop
_KIT = {os.path.join(os.path.dirname(__file__), name) for name in ("scheduler.py", "standins.py")}


class Teardown(BaseException):
    """Raised in tasks that are left over when a run has ended, so that their threads become free."""


class Worker:
    """A real thread which runs one task after another."""

    def __init__(self, scheduler: "Scheduler", number: int) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.task: Optional[Task] = None
        self._scheduler = scheduler
        self.thread = threading.Thread(target=self._work, name=f"explorer-{number}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while True:
            self.baton.acquire()
            task = self.task
            assert task is not None
            try:
                if not self._scheduler.ending:
                    self._scheduler.trace()
                    task.body()
            except BaseException as raised:  # the scheduler judges it; what its frames hold is freed right here
                self._scheduler.judge(task, raised)
            finally:
                sys.settrace(None)
                sys.setprofile(None)
            self._scheduler.finish(task)


class Task:
    """A thread of the scenario."""

    __slots__ = ("name", "body", "worker", "daemon", "victim", "done", "wait", "deadline", "verdict", "fresh", "checked")

    def __init__(self, name: str, body: Callable[[], object], worker: Worker, daemon: bool, victim: bool) -> None:
        self.name = name
        self.body = body
        self.worker = worker
        self.daemon = daemon  # a run does not wait for its end
        self.victim = victim  # may be interrupted
        self.done = False
        self.wait: Optional[Callable[[], bool]] = None  # says whether the wait is over; None: the task can run
        self.deadline: Optional[float] = None
        self.verdict = RUN  # how the last wait ended
        self.fresh = False  # the opcode under way was a switch point already
        self.checked = False  # the opcode before was one after which exceptions are delivered


class Scheduler:
    """Runs tasks one at a time; `choices` says which option to take at each decision, option 0 beyond its end."""

    def __init__(self) -> None:
        self.workers: "list[Worker]" = []
        self.current: Optional[Task] = None  # the holder of the baton; None: the driver
        self.live: "list[Task]" = []
        self.ending = False
        self.log: Optional["list[str]"] = None
        self.now = 0.0
        self._over = threading.Lock()  # held while a run is under way
        self._over.acquire()
        self._files: "frozenset[str]" = frozenset()
        self._locals: "dict[int, tuple[Any, CodeType]]" = {}
        self.begin((), 0, 0)
        self.ending = True

    # -- set-up, by the driver ---------------------------------------------------------------------------------

    def aim(self, files: "frozenset[str]", every_opcode: bool, interrupts: bool, anywhere: bool) -> None:
        """Choose the files whose code is traced and what counts as a point there."""
        self._files = files
        self._stored = stored_names(codes_of(sorted(files)))
        self._locals = {}
        self._every_opcode = every_opcode
        self._interruptible = interrupts
        self._anywhere = anywhere or sys.version_info < (3, 10)  # 3.9 looks at nearly every opcode

    def begin(
        self,
        choices: "tuple[int, ...]",
        preemptions: int,
        interrupts: int,
        *,
        pick: Optional[Callable[[int, bool], int]] = None,
        victims: Optional["frozenset[int]"] = None,
        exception: "type[BaseException]" = KeyboardInterrupt,
        max_steps: int = 20_000,
    ) -> None:
        """Forget the last run and prepare the next."""
        self.choices = choices
        self.taken: "list[tuple[int, int]]" = []  # (option chosen, number of options) per decision
        self.steps = 0
        self.failure: Optional[str] = None
        self.error: Optional[BaseException] = None
        self.now = 1000.0
        self._left = preemptions
        self._interrupts = interrupts
        self._pick = pick
        self._victims = victims
        self._interruption = exception("injected")
        self._max_steps = max_steps
        self.live = []
        self._bodies = 0
        self._spawned = 0
        self.ending = False

    def spawn(self, body: Callable[[], object], name: str, daemon: bool = False, is_body: bool = False) -> Task:
        """Add a task; it runs from when it is first chosen."""
        if self._spawned == len(self.workers):
            self.workers.append(Worker(self, self._spawned))
        worker = self.workers[self._spawned]
        victim = self._victims is None or (is_body and self._bodies in self._victims)
        task = Task(name, body, worker, daemon, victim)
        worker.task = task
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

    def _wait(self) -> None:
        if self._over.acquire(timeout=PATIENCE):
            return
        running = self.current or self.live[0]
        self.fail(f"endless loop: {running.name} did not come to a switch point within {PATIENCE} s")
        identity = ctypes.c_ulong(running.worker.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(Teardown))
        if not self._over.acquire(timeout=PATIENCE):
            self.workers = []  # its thread is beyond reach: start afresh with others
            self.live = []
            raise RuntimeError(f"{running.name} cannot be ended")

    # -- points, by the holder of the baton --------------------------------------------------------------------

    def step(self) -> None:
        """A switch point in an operation of a stand-in, unless the opcode that called it was one."""
        task = self.current
        if task is None:
            return
        if task.fresh:
            task.fresh = False
        else:
            self.point(True, False)

    def point(self, switch: bool, deliver: bool) -> None:
        """Let another task run here, or an interruption arrive, if that is the choice."""
        me = self.current
        if me is None or self.ending:
            return
        self.steps += 1
        if self.steps > self._max_steps:
            self.fail(f"no end within {self._max_steps} steps")
            raise Teardown
        if not (self._left or self._interrupts):
            sys.settrace(None)  # nothing is left to choose but at waits
            return
        options = [(me, RUN)]
        if switch and self._left:
            for task in self.live:
                if task is not me:
                    if task.wait is None or task.wait():
                        options.append((task, RUN))
                    if task.deadline is not None:
                        options.append((task, EXPIRE))
        if self._interrupts:
            if deliver and me.victim:
                options.append((me, INTERRUPT))
            if switch:
                options += [(task, INTERRUPT) for task in self.live if task.victim and task.wait is not None]
        if len(options) > 1:
            chosen = self._choose(len(options), False)
            if chosen:
                task, action = options[chosen]
                if action is INTERRUPT and task is me:
                    self._note(me, INTERRUPT)
                    self._interrupts -= 1
                    if self._left or self._interrupts:
                        sys.setprofile(self._retrace)
                    raise self._interruption
                self._left -= action is not INTERRUPT
                self._hand_over(task, action)
                if not (self._left or self._interrupts):
                    sys.settrace(None)

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
        self._leave()
        if me.verdict is INTERRUPT:
            raise self._interruption
        return me.verdict is RUN

    def judge(self, task: Task, error: BaseException) -> None:
        """Say whether the error that ended a task is a failure."""
        if error is self._interruption:
            error.__traceback__ = error.__context__ = None
        elif not isinstance(error, Teardown):
            self.error = self.error or error
            self.fail(f"{task.name} raised {error!r}")

    def judge_unraisable(self, error: BaseException, source: object) -> None:
        """The same for an error that a finalizer raised; nobody could catch it, an interruption included."""
        if error is not self._interruption and not isinstance(error, Teardown):
            self.error = self.error or error
            self.fail(f"{source!r} raised {error!r}")

    def finish(self, task: Task) -> None:
        """The end of a task: pass the baton on, or end the run."""
        task.done = True
        self.live.remove(task)
        if not self.ending and any(not other.daemon for other in self.live):
            try:
                return self._leave()
            except Teardown:  # a deadlock of the others
                pass
        self.ending = True
        self.current = None
        self._over.release()

    def _leave(self) -> None:
        """Choose who runs next when the holder of the baton cannot."""
        ready = [(task, RUN) for task in self.live if task.wait is None or task.wait()]
        timed = [(task, EXPIRE) for task in self.live if task.deadline is not None]
        timed.sort(key=lambda option: option[0].deadline or 0.0)
        options = ready + (timed if self._left else timed[: not ready])
        free = len(ready) or 1  # a time-out is free only if nothing else can happen: else what ticks ticks for ever
        if not options:
            self.fail("deadlock: nobody can run")
            raise Teardown
        if self._interrupts:
            options += [(task, INTERRUPT) for task in self.live if task.victim and task.wait is not None]
        chosen = self._choose(len(options), True) if len(options) > 1 else 0
        task, action = options[chosen]
        self._left -= action is not INTERRUPT and chosen >= free
        self._hand_over(task, action)

    def _hand_over(self, task: Task, action: str) -> None:
        me = self.current
        self._note(task, action)
        if action is EXPIRE:
            self.now = max(self.now, task.deadline or 0.0)
        elif action is INTERRUPT:
            self._interrupts -= 1
        task.verdict, task.wait, task.deadline = action, None, None
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
        if number < len(self.choices):
            chosen = self.choices[number]
        else:
            chosen = self._pick(count, free) if self._pick else 0
        if chosen >= count:
            self.fail(f"not reproducible: decision {number} has {count} options, option {chosen} was chosen before")
            raise Teardown
        self.taken.append((chosen, count))
        return chosen

    # -- tracing -----------------------------------------------------------------------------------------------

    def trace(self) -> None:
        """Trace the calling thread from here on, if there is anything left to choose."""
        if self._left or self._interrupts:
            sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if code.co_filename not in self._files:
            return None
        known = self._locals.get(id(code))
        if known is None:
            known = self._locals[id(code)] = (self._local(code), code)  # with the code, lest its id be used again
        frame.f_trace = known[0]  # before f_trace_opcodes, or 3.12 and 3.13 send no opcode events the first time
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return known[0]

    def _local(self, code: CodeType) -> Any:
        flags = flags_of(code, self._stored, self._every_opcode)
        points = frozenset(offset for offset, flag in flags.items() if flag & SWITCH)
        point, get, anywhere = self.point, flags.get, self._anywhere

        def local(frame: FrameType, event: str, arg: object) -> Any:
            if event == "opcode" and frame.f_lasti in points and self.current:
                self.current.fresh = True
                point(True, False)
            return local

        def local_with_interrupts(frame: FrameType, event: str, arg: object) -> Any:
            task = self.current
            if event == "opcode" and task:
                flag = get(frame.f_lasti, 0)
                deliver = (task.checked or anywhere) and not flag & HOLD
                task.checked = bool(flag & CHECK)
                task.fresh = bool(flag & SWITCH)
                if deliver or task.fresh:
                    point(task.fresh, deliver)
            return local_with_interrupts

        return local_with_interrupts if self._interruptible else local

    def _retrace(self, frame: FrameType, event: str, arg: object) -> None:
        """A profile function: CPython stops tracing a thread whose trace function raised; trace it again."""
        sys.setprofile(None)
        outer: Optional[FrameType] = frame
        while outer is not None:
            self._trace(outer, "call", None)
            outer = outer.f_back
        self.trace()
        if event == "c_call" and frame.f_code.co_filename in self._files:
            self.point(True, False)

    # -- reports -----------------------------------------------------------------------------------------------

    def fail(self, message: str) -> None:
        """End the run as a failure; the first one counts."""
        if self.failure is None:
            frames = sys._current_frames()
            places = [f"{task.name} at {_place(frames.get(task.worker.thread.ident or 0))}" for task in self.live]
            self.failure = "; ".join([message, *places])
        self.ending = True

    def _note(self, task: Task, action: str) -> None:
        if self.log is not None:
            me = self.current
            stops = f"{me.name} {'ended' if me.done else 'stops at ' + _place(sys._getframe())}, " if me else ""
            self.log.append(f"{'' if task is me else stops}{task.name} {action}")


def _place(frame: Optional[FrameType]) -> str:
    while frame is not None and frame.f_code.co_filename in _KIT:
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename == threading.__file__:
        return "its start"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} ({frame.f_code.co_name})"
