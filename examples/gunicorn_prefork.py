"""gunicorn with preload, processes and threads: ``gunicorn -c gunicorn_prefork.py``, with QUEUEPOOL_DSN set; or
``python examples/gunicorn_prefork.py``, which starts it and asks it (``pip install gunicorn``).

This file is gunicorn's configuration and the application too. With ``preload_app`` the pool is made before the workers are
forked, which costs it nothing: a child starts with an empty pool, and leaves its parent's connections alone. Count for the
database: workers × capacity.
"""

# mypy: ignore-errors
# Where gunicorn is not installed mypy does not find it.

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import gunicorn

from queuepool.psycopg2pool import ConnectionPool

# The configuration.
wsgi_app = "gunicorn_prefork:create_app()"
preload_app = True
workers, threads, worker_class = 2, 4, "gthread"
pythonpath = os.path.dirname(os.path.abspath(__file__))


def create_app():
    """Called once, before the workers are forked."""
    # At most as many connections as threads can use at a time.
    pool = ConnectionPool(os.environ["QUEUEPOOL_DSN"], name="web", capacity=threads, timeout=5.0)
    pool.start_recycler()  # each child has one of its own, too
    with pool.connection() as conn:
        print(
            f"gunicorn {gunicorn.__version__}: the parent has used connection {conn.info.backend_pid}", file=sys.stderr
        )

    def application(environ, start_response):
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [backend] = cursor.fetchone()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps([os.getpid(), backend]).encode()]

    return application


def fetch(port: int) -> list[int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return json.loads(answer.read())


def main(port: int) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", __file__, "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            booted = 0
            while booted < workers:
                line = process.stderr.readline()
                if not line:
                    raise SystemExit("gunicorn did not start")
                booted += "Booting worker" in line
            with ThreadPoolExecutor(16) as executor:
                answers = list(executor.map(lambda _: fetch(port), range(300)))
        finally:
            process.terminate()
    by_worker = {}
    for worker, backend in answers:
        by_worker.setdefault(worker, set()).add(backend)
    shared = set.intersection(*by_worker.values()) if len(by_worker) > 1 else set()
    print(f"{len(answers)} requests, {len(by_worker)} workers, {len(shared)} connections used by two of them")


if __name__ == "__main__":
    from local_postgres import free_port, server

    with server() as dsn:
        os.environ["QUEUEPOOL_DSN"] = dsn
        main(free_port())
