from __future__ import annotations

import json

import pytest

from queuepool import Histogram, Holder, Observer, Pool
from queuepool.stats import BUCKETS, Recorder


def histogram(*seconds: float) -> Histogram:
    recorder = Recorder()
    for each in seconds:
        recorder.add(each)
    return recorder.snapshot()


def test_each_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    for number, bound in enumerate(BUCKETS):
        assert histogram(bound).counts[number] == 1
        assert histogram(bound * 1.0001).counts[number + 1] == 1
    assert len(histogram().counts) == len(BUCKETS) + 1
    assert list(BUCKETS) == sorted(BUCKETS)


def test_a_histogram_keeps_the_sum_the_count_and_the_longest() -> None:
    told = histogram(0.5, 0.25, 90.0)
    assert (told.count, told.total_time, told.longest_time) == (3, 90.75, 90.0)


def test_a_quantile_is_the_bound_of_its_bucket_or_the_longest_if_that_is_less() -> None:
    told = histogram(*[0.0009] * 99, 0.2)
    assert told.quantile(0.5) == 0.001
    assert told.quantile(0.99) == 0.001
    assert told.quantile(1.0) == 0.2
    assert told.quantile(0.0) == 0.001
    assert histogram(90.0).quantile(0.5) == 90.0
    assert histogram(1e-9, 1e-9).quantile(0.5) == 1e-9


def test_a_quantile_of_nothing_is_zero() -> None:
    assert histogram().quantile(0.99) == 0.0


def test_a_snapshot_cannot_be_changed() -> None:
    recorder = Recorder()
    before = recorder.snapshot()
    recorder.add(1.0)
    assert before.count == 0
    with pytest.raises(AttributeError):
        before.total_time = 1.0  # type: ignore[misc]


def test_a_snapshot_is_ready_for_json_by_its_names() -> None:
    pool = Pool("orders", 2, open=object)
    with pool.take():
        told = json.loads(json.dumps(pool.stats().as_dict()))
    assert (told["name"], told["capacity"], told["taken"], told["last_open_error"]) == ("orders", 2, 1, None)
    assert sum(told["opens"]["counts"]) == 1
    assert sorted(told["waits"]) == ["bounds", "counts", "longest_time", "total_time"]
    pool.close()


def test_a_holder_reads_as_who_how_long_and_where() -> None:
    assert str(Holder("orders-1", "thread worker-3", 41.234, "billing.py:88")) == (
        "thread worker-3, 41.2 s, billing.py:88"
    )


def test_the_methods_of_an_observer_do_nothing_of_their_own() -> None:
    events = [name for name in vars(Observer) if not name.startswith("_")]
    assert len(events) == 8
    for event in events:
        method = getattr(Observer(), event)
        assert method(*[None] * (method.__code__.co_argcount - 1)) is None
