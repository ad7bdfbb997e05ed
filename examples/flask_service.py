"""Flask, with a connection for each request that asks for one: ``flask --app flask_service run``, with QUEUEPOOL_DSN set;
or ``python examples/flask_service.py``, which asks itself from 16 threads (``pip install flask``).

Under a server that forks (gunicorn, uWSGI) nothing is to be changed: each process opens connections of its own.
"""

# mypy: ignore-errors
# Where Flask is not installed its decorators are unknown, and all that they decorate.

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, g
from local_postgres import server

from queuepool import PoolError
from queuepool.psycopg2pool import ConnectionPool


def database():
    """The connection of this request, lent when first asked for; its transaction ends with the request."""
    if "transaction" not in g:
        transaction = g.pool.connection()
        g.connection = transaction.__enter__()
        g.transaction = transaction
    return g.connection


def create_app() -> Flask:
    app = Flask(__name__)
    pool = ConnectionPool(os.environ["QUEUEPOOL_DSN"], name="web", capacity=4, timeout=5.0, max_waiting=200)
    pool.start_recycler()
    app.extensions["queuepool"] = pool

    @app.before_request
    def lend() -> None:
        g.pool = pool

    @app.teardown_request
    def give_back(error: BaseException | None) -> None:
        transaction = g.pop("transaction", None)
        if transaction is not None:
            transaction.__exit__(type(error) if error else None, error, None)

    @app.errorhandler(PoolError)
    def busy(error: PoolError):
        app.logger.warning("%s", error)
        return {"detail": "busy, try again"}, 503, {"Retry-After": "1"}

    @app.get("/square/<int:number>")
    def square(number: int):
        with database().cursor() as cursor:
            cursor.execute("SELECT %s * %s", (number, number))
            return {"square": cursor.fetchone()[0]}

    @app.get("/fail")
    def fail():
        with database().cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    return app


def ask(app: Flask, number: int) -> bool:
    return app.test_client().get(f"/square/{number}").get_json() == {"square": number * number}


def main() -> None:
    app = create_app()
    pool = app.extensions["queuepool"]
    with ThreadPoolExecutor(16) as executor:
        right = sum(executor.map(lambda number: ask(app, number), range(200)))
    print(f"{right} of 200 answers are right, over {pool.stats().opens.count} connections")
    app.logger.disabled = True  # what comes now would be logged with a traceback
    print(f"a request that fails is answered by {app.test_client().get('/fail').status_code}")
    print(f"still lent: {pool.stats().taken}; closed for it: {sum(pool.stats().closes.values())}")
    pool.close()


if __name__ == "__main__":
    with server() as dsn:
        os.environ["QUEUEPOOL_DSN"] = dsn
        main()
