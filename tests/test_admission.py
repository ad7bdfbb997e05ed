from __future__ import annotations

import pytest

from queuepool.admission import Admission


def test_without_a_bound_everybody_may_wait() -> None:
    assert Admission(None, None).admits(10**6, 0.0)


@pytest.mark.parametrize(("waiting", "admitted"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_bound_on_the_line_counts_those_who_wait_already(waiting: int, admitted: bool) -> None:
    assert Admission(2, None).admits(waiting, 0.0) is admitted


def test_without_shed_after_nobody_is_shed() -> None:
    admission = Admission(None, None)
    assert not admission.sheds(1e6, 5, 1e6)


def test_a_line_that_empties_now_and_then_is_served_whole() -> None:
    admission = Admission(None, 0.01)
    for now in (0.0, 1.0, 2.0):
        admission.admits(0, now)
        assert not admission.sheds(0.09, 5, now + 0.09)


def test_in_a_line_that_has_stood_for_long_those_who_waited_too_long_are_shed() -> None:
    admission = Admission(None, 0.01)
    admission.admits(0, 10.0)
    admission.admits(5, 10.15)
    assert admission.sheds(0.02, 1, 10.2)
    assert not admission.sheds(0.02, 0, 10.2), "nobody would be served instead"
    assert not admission.sheds(0.01, 1, 10.2), "this one has just come"
    admission.admits(0, 10.3)
    assert not admission.sheds(0.02, 1, 10.35), "the line was empty, so the overload is over"
