"""What an exploration says: how many schedules it ran, and how to run a failing one again."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What reproduces one run: the option taken at each decision, then 0; and what the options are."""

    choices: tuple[int, ...] = ()
    preemptions: int = 2
    interrupts: int = 0
    victims: tuple[int, ...] | None = None
    every_opcode: bool = False
    exception: type[BaseException] = KeyboardInterrupt

    def __str__(self) -> str:
        shown = [f"choices={self.choices!r}"]
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                told = value.__name__ if isinstance(value, type) else repr(value)
                shown.append(f"{field.name}={told}")
        return f"Schedule({', '.join(shown)})"


@dataclasses.dataclass(frozen=True)
class Failure:
    """One failing run."""

    message: str
    schedule: Schedule
    error: BaseException | None = dataclasses.field(compare=False)
    switches: tuple[str, ...] = ()

    def __str__(self) -> str:
        steps = [f"  {switch}" for switch in self.switches]
        return "\n".join([self.message, *steps, f"  replay with {self.schedule}"])


@dataclasses.dataclass(frozen=True)
class Report:
    """What an exploration found; `complete` if every schedule within the bounds was run."""

    schedules: int
    complete: bool
    failures: tuple[Failure, ...]
    seconds: float

    def assert_none_failed(self) -> Report:
        """Raise AssertionError, with the schedules that failed, unless none did."""
        if self.failures:
            raise AssertionError(str(self)) from self.failures[0].error
        return self

    def assert_holds(self) -> Report:
        """Raise AssertionError unless every schedule within the bounds was run and none failed."""
        self.assert_none_failed()
        if not self.complete:
            raise AssertionError(str(self))
        return self

    def __str__(self) -> str:
        kind = "all" if self.complete else "not all"
        failed = len(self.failures)
        head = f"{self.schedules} schedules ({kind}) in {self.seconds:.1f} s, {failed} failed"
        return "\n".join([head, *map(str, self.failures)])
