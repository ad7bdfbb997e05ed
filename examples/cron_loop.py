"""A program that sweeps its pool itself, in a loop like cron's, without a thread: ``python examples/cron_loop.py [DSN]``.

Every second it writes down how many sessions the server has; the pool keeps the connection only as long as it is used.
Ctrl-C ends it; so does the time in QUEUEPOOL_EXAMPLE_SECONDS, if that is set.
"""

from __future__ import annotations

import itertools
import os
import sys
import time

from local_postgres import server

from queuepool.psycopg2pool import ConnectionPool

INTERVAL = 1.0  # seconds between two rounds
REPORT_EVERY = 3  # rounds between two reports, so the pool is idle in most


def sessions(pool: ConnectionPool) -> int:
    with pool.take() as slot, slot.resource.cursor() as cursor:
        print(f"  {slot.name}: open for {slot.open_time:.1f} s, used {slot.use_count} times")
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        [row] = cursor.fetchall()
        return int(row[0])


def main(dsn: str, seconds: float) -> None:
    with ConnectionPool(dsn, name="cron", capacity=2, max_idle_time=1.5 * INTERVAL) as pool:
        end = time.monotonic() + seconds
        for round_number in itertools.count():
            if round_number % REPORT_EVERY == 0:
                print(f"round {round_number}: {sessions(pool)} sessions", flush=True)
            closed = pool.recycle()
            if closed:
                print(f"round {round_number}: {closed} idle connection closed", flush=True)
            if time.monotonic() + INTERVAL > end:
                return
            time.sleep(INTERVAL)


if __name__ == "__main__":
    with server(sys.argv[1] if len(sys.argv) > 1 else None) as dsn:
        try:
            main(dsn, float(os.environ.get("QUEUEPOOL_EXAMPLE_SECONDS", "inf")))
        except KeyboardInterrupt:
            print("ended")
