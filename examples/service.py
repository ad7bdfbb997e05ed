"""A long-running service on a pool that tends itself: ``python examples/service.py [DSN]``.

``/`` asks PostgreSQL for the time, ``/stats`` shows the pool. Ctrl-C or SIGTERM ends it, once every request is answered;
so does the time in QUEUEPOOL_EXAMPLE_SECONDS, if that is set.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2
from local_postgres import server

from queuepool import Exhausted, PoolError
from queuepool.psycopg2pool import ConnectionPool

log = logging.getLogger("service")


class Handler(BaseHTTPRequestHandler):
    pool: ConnectionPool

    def do_GET(self) -> None:
        if self.path == "/stats":
            self.answer(200, json.dumps(self.pool.stats().as_dict(), indent=1))
            return
        try:
            with self.pool.get() as conn, conn.cursor() as cursor:
                cursor.execute("SELECT to_char(clock_timestamp(), 'HH24:MI:SS')")
                [now] = cursor.fetchall()
        except Exhausted as error:  # too much to do: its text names who holds the connections, and since when
            self.answer(503, f"busy, try again\n{error}")
        except (PoolError, psycopg2.OperationalError) as error:  # the database is away
            self.answer(503, f"no database\n{error}")
        else:
            self.answer(200, f"It is {now[0]}, says PostgreSQL.")

    def answer(self, status: int, text: str) -> None:
        body = text.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.info(format, *args)


def main(dsn: str) -> None:
    pool = ConnectionPool(dsn, name="service", capacity=8, timeout=5.0, max_waiting=100, leak_after=60.0)
    pool.start_recycler(interval=10)
    Handler.pool = pool
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def end(*_: object) -> None:
        # shutdown() waits for serve_forever(), which goes on only after this signal handler has returned.
        threading.Thread(target=http.shutdown).start()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    seconds = os.environ.get("QUEUEPOOL_EXAMPLE_SECONDS")
    if seconds:
        timer = threading.Timer(float(seconds), end)
        timer.daemon = True
        timer.start()
    print(f"http://127.0.0.1:{http.server_port}/ and /stats; Ctrl-C ends it", flush=True)
    with http:
        http.serve_forever()
    for holder in pool.close(timeout=10):  # waits for the requests that are still being answered
        print(f"still held: {holder}")
    print(f"closed; {pool.stats().takes} requests used {pool.stats().opens.count} connections")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with server(sys.argv[1] if len(sys.argv) > 1 else None) as dsn:
        main(dsn)
