"""FastAPI with a pool of psycopg2 connections: ``uvicorn asyncio_fastapi:app``, or ``python examples/asyncio_fastapi.py``,
which asks itself (``pip install fastapi httpx``).

The pool lives as long as the application, by its lifespan. Endpoints of both kinds wait in one fair line for it: plain
ones run in FastAPI's threads, and async ones borrow by ``aconnection()``, which does not block the loop.
"""

# mypy: ignore-errors
# Where FastAPI is not installed its decorators are unknown, and all that they decorate.

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from local_postgres import server

from queuepool import PoolError
from queuepool.psycopg2pool import ConnectionPool


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    pool = ConnectionPool(os.environ["QUEUEPOOL_DSN"], name="web", capacity=4, timeout=5.0, max_waiting=200)
    pool.start_recycler()
    app.state.pool = pool
    yield
    await asyncio.to_thread(pool.close)


app = FastAPI(lifespan=lifespan)


@app.exception_handler(PoolError)
async def busy(request: Request, error: PoolError) -> JSONResponse:
    """Every slot is taken, or the database is away: the client may try again."""
    return JSONResponse({"detail": "busy, try again"}, 503, {"Retry-After": "1"})


def square(conn: Any, number: int) -> int:
    with conn.cursor() as cursor:
        cursor.execute("SELECT %s * %s", (number, number))
        return int(cursor.fetchone()[0])


@app.get("/plain/{number}")
def plain(request: Request, number: int) -> int:
    with request.app.state.pool.connection() as conn:
        return square(conn, number)


@app.get("/async/{number}")
async def awaiting(request: Request, number: int) -> int:
    async with request.app.state.pool.aconnection() as conn:
        return await asyncio.to_thread(square, conn, number)


@app.get("/stats")
async def stats(request: Request) -> dict[str, int]:
    now = request.app.state.pool.stats()
    return {"takes": now.takes, "opens": now.opens.count, "taken": now.taken, "waiting": now.waiting}


async def main() -> None:
    async with lifespan(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:

        async def ask(number: int) -> bool:
            kind = "async" if number % 2 else "plain"
            return (await client.get(f"/{kind}/{number}")).json() == number * number

        right = sum(await asyncio.gather(*map(ask, range(100))))
        print(f"{right} of 100 answers are right")
        print("pool:", (await client.get("/stats")).json())


if __name__ == "__main__":
    with server() as os.environ["QUEUEPOOL_DSN"]:
        asyncio.run(main())
