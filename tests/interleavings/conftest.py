"""Says at the end of the tests how many schedules were run."""

from __future__ import annotations

import pytest

from .proving import reports


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sum, for a pass says nothing without it."""
    if reports:
        complete = sum(report.complete for report in reports)
        terminalreporter.write_line(
            f"interleavings: {sum(report.schedules for report in reports):,} schedules in "
            f"{sum(report.seconds for report in reports):.0f} s, "
            f"{complete} of {len(reports)} explorations complete"
        )
