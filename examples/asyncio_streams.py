"""A pool of plain asyncio streams to an echo server, with check and reset: ``python examples/asyncio_streams.py``.

What a pool must know of its resources is four functions. They may be async, or plain where there is nothing to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from queuepool import AsyncPool


class Line(NamedTuple):
    """A connection to the echo server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, text: str) -> str:
        self.writer.write(text.encode() + b"\n")
        answer = (await self.reader.readline()).decode().strip()
        if not answer:
            raise ConnectionError("the server hung up")
        return answer


def line_pool(port: int, capacity: int) -> AsyncPool[Line]:
    async def connect() -> Line:
        return Line(*await asyncio.open_connection("127.0.0.1", port))

    return AsyncPool(
        "lines", capacity, open=connect, close=close, check=check, reset=reset, timeout=5.0, check_after=0.0
    )


async def close(line: Line) -> None:
    line.writer.close()
    # A server that hung up has said so already; nobody waits here to hear it again.
    await asyncio.wait([asyncio.ensure_future(line.writer.wait_closed())])


def check(line: Line) -> bool:
    return not line.reader.at_eof()  # the loop has seen it, so there is no need to ask


async def reset(line: Line) -> None:
    """Read what the last user did not, lest the next take it for an answer. An error, or a timeout, closes the line."""
    line.writer.write(b"END\n")
    while (await asyncio.wait_for(line.reader.readline(), 1.0)).strip() != b"END":
        if line.reader.at_eof():
            raise ConnectionError("the server hung up")


class EchoServer:
    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while text := await reader.readline():
                writer.write(text)

    def hang_up(self) -> None:
        for writer in self.connections:
            writer.close()
        self.connections.clear()


async def main() -> None:
    echo = EchoServer()
    tcp = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with line_pool(tcp.sockets[0].getsockname()[1], capacity=3) as pool:

        async def talk(number: int) -> bool:
            async with pool.get() as line:
                return await line.ask(f"hello {number}") == f"hello {number}"

        right = sum(await asyncio.gather(*map(talk, range(100))))
        print(f"{right} of 100 tasks got their own answer, over {pool.stats().opens.count} connections")

        # One user leaves before its answer has come: the next does not get it.
        async with pool.get() as line:
            line.writer.write(b"nobody reads the answer to this\n")
        async with pool.get() as same:
            print("the same connection:", same is line, "and clean:", await same.ask("me") == "me")

        # A user that is cancelled leaves its connection in an unknown state: it is closed (close_on_exception).
        task = asyncio.ensure_future(talk(100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        # The server hangs up on all that lie idle: nobody sees an error.
        echo.hang_up()
        await asyncio.sleep(0.05)
        right = sum(await asyncio.gather(*map(talk, range(100))))
        print(
            f"after a hang-up: {right} of 100, {pool.stats().closes.get('check', 0)} found dead before they were lent"
        )
        print(f"taken: {pool.stats().taken}")
    tcp.close()


if __name__ == "__main__":
    asyncio.run(main())
