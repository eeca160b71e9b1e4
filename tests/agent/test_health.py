"""The two pages for probes and Prometheus."""

import asyncio

import pytest
from edgewise_agent import health


async def get(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /healthz HTTP/1.1", b"200 OK", b"ok\n"),
        (b"GET /healthz?verbose HTTP/1.1", b"200 OK", b"ok\n"),
        (b"GET /metrics HTTP/1.1", b"200 OK", b"figures 1\n"),
        (b"GET / HTTP/1.1", b"404 Not Found", b"there are /healthz and /metrics\n"),
        (b"POST /healthz HTTP/1.1", b"405 Method Not Allowed", b"only GET\n"),
    ],
)
async def test_pages(request_line: bytes, status: bytes, body: bytes) -> None:
    async with health.serve(0, lambda: b"figures 1\n") as port:
        answer = await get(port, request_line + b"\r\nHost: x\r\n\r\n")
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert content == body
    assert b"Content-Length: %d" % len(body) in head


async def test_nonsense_ends_the_connection_only() -> None:
    async with health.serve(0, lambda: b"") as port:
        assert await get(port, b"x" * (health.LONGEST_REQUEST_BYTES * 2)) == b""
        assert b"200 OK" in await get(port, b"GET /healthz HTTP/1.1\r\n\r\n")
