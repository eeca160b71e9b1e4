"""A cable between an agent and its gateway, for tests: a TCP relay whose connections can be cut after any byte."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat


@dataclass(slots=True)
class Cable:
    """The relay to `port`. Each connection takes its limits from the two iterators, and is cut when one is reached."""

    port: int
    up: Iterator[float] = field(default_factory=lambda: repeat(math.inf))
    """after how many bytes from the agent a connection is cut"""
    down: Iterator[float] = field(default_factory=lambda: repeat(math.inf))
    """the same for bytes to the agent"""
    plugged_in: Callable[[], None] = lambda: None
    """called before each connection"""
    cuts: int = 0

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        """Relays for the block; the address that the agent is to use."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        async with server:
            yield f"https://localhost:{server.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.plugged_in()
        gateway_reader, gateway_writer = await asyncio.open_connection("127.0.0.1", self.port)
        ways = [
            asyncio.create_task(_carry(reader, gateway_writer, next(self.up))),
            asyncio.create_task(_carry(gateway_reader, writer, next(self.down))),
        ]
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        self.cuts += any(way.result() for way in done)
        for end in (writer, gateway_writer):
            end.transport.abort()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: float) -> bool:
    """Carry bytes one way until either end closes or the limit is reached; whether it was the limit."""
    carried = 0
    with suppress(OSError):
        while carried < limit:
            data = await reader.read(int(min(limit - carried, 65_536)))
            if not data:
                return False
            writer.write(data)
            await writer.drain()
            carried += len(data)
    return carried >= limit
