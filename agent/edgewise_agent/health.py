"""A web server of two pages, /healthz and /metrics, small enough to cost a device nothing.

This module owns as much of HTTP as kubelet's probes and Prometheus need: GET without a body, one request a connection.
Being cut off from the operator is no sickness (a restart would not help), so /healthz says that the agent's loop turns.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

REQUEST_SECONDS: Final = 5.0
LONGEST_REQUEST_BYTES: Final = 8192

_log = logging.getLogger(__name__)


@asynccontextmanager
async def serve(port: int, metrics: Callable[[], bytes]) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port, which differs from `port` when that is 0.

    `metrics` runs in a thread. Raises `OSError` when the port can't be had.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _response(head, metrics))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _log.debug("request not answered: %r", error)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host=None, port=port, limit=LONGEST_REQUEST_BYTES)
    async with server:
        # With port 0, IPv4 and IPv6 have one each.
        ports = {listening.family: listening.getsockname()[1] for listening in server.sockets}
        yield ports.get(socket.AF_INET, port) or next(iter(ports.values()))


async def _response(head: bytes, metrics: Callable[[], bytes]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"}:
        return _page(b"405 Method Not Allowed", b"only GET\n")
    if path == b"/healthz":
        return _page(b"200 OK", b"ok\n")
    if path == b"/metrics":
        return _page(b"200 OK", await asyncio.to_thread(metrics))
    return _page(b"404 Not Found", b"there are /healthz and /metrics\n")


def _page(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" % status
    return head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
