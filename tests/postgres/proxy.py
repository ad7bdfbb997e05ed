"""A TCP proxy between a test and its server, which does what networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from local_postgres import free_port

from .server import Postgres, Unavailable

Direction = Literal["to_server", "to_client"]
Ending = Literal["close", "reset"]
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Behaviour(NamedTuple):
    """What a proxy does with the packets and the connections it gets."""

    delay: float = 0.0  # seconds
    swallowed: tuple[Direction, ...] = ()
    listening: bool = True
    ending: Ending | None = None  # to each connection, old or new; None: as its own sides do


class Proxy:
    """A proxy on a port of its own; each of its behaviours takes the place of the last.

    The kernel acknowledges all that is sent to the proxy, even what it swallows: neither keepalives
    nor `tcp_user_timeout` notice.
    """

    def __init__(self, target: Postgres) -> None:
        arguments = target.kwargs()
        host = str(arguments.get("hostaddr") or arguments.get("host") or "/")
        if "/" in host or "," in host:
            raise Unavailable(f"a proxy needs a server with one TCP address, not {host}")
        self.port = free_port()
        self.attempts = 0  # connections accepted; the kernel alone sees those that are refused
        self._target = target
        self._address = host, int(arguments.get("port", 5432))
        # Everything below belongs to the proxy's thread.
        self._behaviour = Behaviour(listening=False)
        self._listener: asyncio.AbstractServer | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._run(self._open())

    def dsn(self, **overrides: object) -> str:
        """Return the target's DSN by way of the proxy."""
        address = {"host": "127.0.0.1", "hostaddr": None, "port": self.port}
        return self._target.dsn(**{**address, **overrides})

    @property
    def connections(self) -> int:
        """How many of the accepted connections are open."""
        return len(self._links)

    def forward(self) -> None:
        """Pass everything on, first of all what was held back."""
        self._run(self._switch(Behaviour()))

    def delay(self, seconds: float) -> None:
        """Hold every packet back for so long."""
        self._run(self._switch(Behaviour(delay=seconds)))

    def swallow(self, *directions: Direction) -> None:
        """Let nothing through in these directions, by default in both; `forward` sends it on."""
        self._run(self._switch(Behaviour(swallowed=directions or ("to_server", "to_client"))))

    def refuse(self) -> None:
        """Refuse new connections, as a host without a server does; those that are open go on."""
        self._run(self._switch(Behaviour(listening=False)))

    def reset(self) -> None:
        """Reset every connection, the new ones once they are accepted."""
        self._run(self._switch(Behaviour(ending="reset")))

    def hang_up(self) -> None:
        """Close every connection, the new ones once they are accepted."""
        self._run(self._switch(Behaviour(ending="close")))

    def close(self) -> None:
        """End the proxy and its connections."""
        self._run(self._switch(Behaviour(listening=False, ending="reset")))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # Everything below runs in the proxy's thread.

    async def _open(self) -> None:
        self._changed = asyncio.Event()  # set when the behaviour that it came with is over
        await self._switch(Behaviour())

    async def _switch(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._changed.set()
        self._changed = asyncio.Event()
        if behaviour.listening and self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        elif not behaviour.listening and self._listener is not None:
            self._listener.close()
            self._listener = None
        if behaviour.ending:
            for link in self._links:
                link.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)

    async def _serve(self, from_client: Reader, to_client: Writer) -> None:
        link = asyncio.current_task()
        assert link is not None
        # From here on it may be cancelled: a task cancelled before it begins would end nothing.
        self._links.add(link)
        self.attempts += 1
        sides = [to_client]
        pumps: list[asyncio.Task[None]] = []
        ending: Ending = "close"
        try:
            if self._behaviour.ending is None:
                await self._passage("to_server")
                from_server, to_server = await asyncio.open_connection(*self._address)
                sides.append(to_server)
                up = self._pump(from_client, to_server, "to_server")
                down = self._pump(from_server, to_client, "to_client")
                pumps += map(self._loop.create_task, (up, down))
                await asyncio.gather(*pumps)
        except OSError:
            ending = "reset"  # what one side did is done to the other
        finally:
            for pump in pumps:
                pump.cancel()
            for side in sides:
                _end(side, self._behaviour.ending or ending)
            self._links.discard(link)

    async def _pump(self, source: Reader, target: Writer, direction: Direction) -> None:
        more = True
        while more:
            packet = await source.read(65536)
            await self._passage(direction)
            more = bool(packet)
            if more:
                target.write(packet)
                await target.drain()
            else:
                target.write_eof()

    async def _passage(self, direction: Direction) -> None:
        """Return when a packet that has come now may go on."""
        since = self._loop.time()
        while True:
            wait = since + self._behaviour.delay - self._loop.time()
            if direction in self._behaviour.swallowed:
                await self._changed.wait()
            elif wait > 0:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
            else:
                return


def _end(writer: Writer, how: Ending) -> None:
    if writer.is_closing():
        return  # this side has gone by itself, and its socket with it
    if how == "reset":
        # To linger for no time at all means to send no FIN but RST.
        no_time = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_time)
        writer.transport.abort()
    else:
        writer.close()
