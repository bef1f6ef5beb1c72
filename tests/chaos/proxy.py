"""A network between clients and the broker that can be cut, slowed, lamed, or made to drop connections.

It relays TCP on the loopback interface, in one thread with an event loop. What is written to it takes
``delay_s`` to arrive; each piece that passes breaks its connection with ``reset_chance``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

_PIECE = 65536
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A relay to one port of this machine."""

    def __init__(self, random: Random) -> None:
        self._random = Random(random.random())
        self._target = 0
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._refusing = False
        self.port = 0
        self.delay_s = 0.0
        self.reset_chance = 0.0
        self.resets = 0
        """Connections that were broken so far."""

    def start(self, target: int) -> None:
        """Listen on a free port, and relay to ``target``."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Break everything, and end."""
        if self.port:
            self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def url(self, url: str) -> str:
        """The broker's URL with this network in between."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    # --- harm -----------------------------------------------------------------------------------

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Break all connections and refuse new ones for as long as the block takes."""
        self._refusing = True
        self._do(self._break_all())
        try:
            yield
        finally:
            self._refusing = False

    @contextmanager
    def swallowing(self, *, forget: bool = False) -> Iterator[None]:
        """Let nothing through, without a word, for as long as the block takes.

        What was held back arrives then, as it does from a machine that sends it again; unless the network
        has ``forget``-ten the connections by then, which stay silent for ever.
        """
        self._call(self._flowing.clear)
        try:
            yield
        finally:
            if forget:
                self._do(self._deafen())
            self._call(self._flowing.set)

    # --- inside ---------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _call(self, what: Any) -> None:
        self._loop.call_soon_threadsafe(what)

    async def _listen(self) -> asyncio.Server:
        self._flowing.set()
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        await self._break_all()
        await asyncio.sleep(0.05)  # their tasks end

    async def _break_all(self) -> None:
        for link in list(self._links):
            link.break_off()

    async def _deafen(self) -> None:
        for link in self._links:
            link.deaf = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(link, reader, far_writer)),
            asyncio.ensure_future(self._pump(link, far_reader, writer)),
        ]
        link.pumps = pumps
        await asyncio.wait(pumps)
        self._links.discard(link)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.ensure_future(self._deliver(link, pieces, writer))
        try:
            while piece := await reader.read(_PIECE):
                pieces.put_nowait((self._loop.time() + self.delay_s, piece))
            pieces.put_nowait((self._loop.time() + self.delay_s, b""))
            await delivery
        except OSError:
            link.break_off()
        finally:
            delivery.cancel()

    async def _deliver(
        self,
        link: _Link,
        pieces: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            due, piece = await pieces.get()
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._flowing.wait()
            if link.deaf:
                continue
            if self._random.random() < self.reset_chance:
                self.resets += 1
                link.break_off()
                return
            if not piece:
                writer.close()
                return
            writer.write(piece)
            with suppress(OSError):
                await writer.drain()


class _Link:
    """One connection through the relay: its two ends."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = (near, far)
        self.pumps: Sequence[asyncio.Future[None]] = ()
        self.deaf = False

    def break_off(self) -> None:
        """Reset both ends."""
        for end in self._ends:
            _reset(end)
        for pump in self.pumps:
            pump.cancel()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
