"""A queue of jobs in a table, and workers that sleep until NOTIFY: ``python examples/worker_listen_notify.py``.

One connection listens for as long as the worker lives, outside of every transaction; each job is done in a transaction of
its own on another one, so a job whose worker dies is simply done by the next. It makes a table, ``worker_job``, and drops it.
"""

from __future__ import annotations

import select
import threading
from concurrent.futures import ThreadPoolExecutor

from local_postgres import server

from queuepool.psycopg2pool import ConnectionPool

JOBS, WORKERS = 40, 3

NEXT_JOB = """
DELETE FROM worker_job WHERE id = (SELECT id FROM worker_job ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING text
"""


def do_one_job(pool: ConnectionPool, done: list[str]) -> bool:
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute(NEXT_JOB)
        job = cursor.fetchone()
        if job is None:
            return False
        done.append(job[0])  # here the work would be; an exception would put the job back
        return True


def work(pool: ConnectionPool, stopping: threading.Event, done: list[str]) -> None:
    with pool.connection() as listener:
        listener.autocommit = True
        with listener.cursor() as cursor:
            cursor.execute("LISTEN worker_job")
            while not stopping.is_set():
                while do_one_job(pool, done):
                    pass
                # Notifications are not lost: those that came since LISTEN are readable already.
                if select.select([listener], [], [], 0.2)[0]:
                    listener.poll()
                    listener.notifies.clear()
            cursor.execute("UNLISTEN *")  # rollback does not end it, and the next user wants none


def produce(pool: ConnectionPool) -> None:
    for number in range(JOBS):
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("INSERT INTO worker_job (text) VALUES (%s)", (f"job {number}",))
            cursor.execute("NOTIFY worker_job")  # delivered with the commit


def main(dsn: str) -> None:
    stopping, done = threading.Event(), list[str]()
    with ConnectionPool(dsn, name="jobs", capacity=2 * WORKERS + 1) as pool:
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS worker_job")
            cursor.execute("CREATE TABLE worker_job (id serial PRIMARY KEY, text text NOT NULL)")
        with ThreadPoolExecutor(WORKERS) as executor:
            workers = [executor.submit(work, pool, stopping, done) for _ in range(WORKERS)]
            produce(pool)
            while len(done) < JOBS and not any(worker.done() for worker in workers):
                stopping.wait(0.01)
            stopping.set()
            for worker in workers:
                worker.result()
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("DROP TABLE worker_job")
        print(f"{len(set(done))} of {JOBS} jobs were done, each once: {len(done) == JOBS}")
        print(f"{pool.stats().opens.count} connections were lent {pool.stats().takes} times")


if __name__ == "__main__":
    with server() as dsn:
        main(dsn)
