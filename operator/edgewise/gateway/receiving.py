"""Bodies of uploads, from the network to the disk: what came before a break is kept, and memory stays bounded.

Knows nothing of who may send, nor of jobs: it is given a place to write to, and how long the content is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web
from edgewise_agent.wire import BlobStatus

from edgewise.gateway.encoding import GZIP, BadEncoding, Gzip, Plain
from edgewise.gateway.metrics import Metrics
from edgewise.gateway.partial import BlobWriter
from edgewise.gateway.problems import Refusal
from edgewise.gateway.turns import Turn
from edgewise.gateway.volume import Volume

MAX_PLAN_BYTES = 24 * 1024 * 1024
"""A plan of 100,000 files with names of ordinary length."""
IDLE_SECONDS = 60.0
"""After so long without a byte the connection is taken for dead, and what came before is kept."""
WRITE_BYTES = 512 * 1024
COMMIT_BYTES = 32 * 1024 * 1024
"""No more than this is sent again after a crash of the gateway."""


class Receiver:
    """Writes bodies to blobs, and commits as it goes."""

    def __init__(self, volume: Volume, metrics: Metrics) -> None:
        self._volume = volume
        self._metrics = metrics

    @asynccontextmanager
    async def writing(self, job_uid: str, pod_uid: str, sha256: str) -> AsyncIterator[BlobWriter]:
        """A blob of an accepted plan, opened for its next bytes. One writer a blob."""
        writer = await self._volume.append(job_uid, pod_uid, sha256)
        try:
            yield writer
        finally:
            await self._volume.run(writer.close)

    async def receive(self, request: web.Request, turn: Turn, writer: BlobWriter, size: int, body: Plain) -> int:
        """Streams the body to the disk; how many bytes are then held safely, also when the connection breaks."""
        broken: str | None = None
        buffer = bytearray()
        while True:
            try:
                async with turn.patience(IDLE_SECONDS):
                    data = await request.content.readany()
            except asyncio.CancelledError:
                await self._volume.run(writer.commit)
                raise
            except (OSError, web.RequestPayloadError) as error:  # TimeoutError is an OSError
                broken = str(error) or type(error).__name__
                break
            if not data:
                broken = None if body.is_whole() else "the gzip member has no end"
                break
            body.feed(data)
            while piece := await self._decoded(body, size - writer.position - len(buffer)):
                if writer.position + len(buffer) + len(piece) > size:
                    raise too_long(request.match_info["sha256"], size)
                buffer += piece
                self._metrics.received_bytes.inc(len(piece))
                if len(buffer) >= WRITE_BYTES:
                    await self._volume.run(writer.write, buffer)
                    buffer = bytearray()
                    if writer.position - writer.committed >= COMMIT_BYTES:
                        await self._volume.run(writer.commit)
        await self._volume.run(writer.write, buffer)
        held = await self._volume.run(writer.commit)
        if broken is not None:
            raise wrong_offset(request.match_info["sha256"], held, f"The body broke off at byte {held} ({broken})")
        return held

    async def _decoded(self, body: Plain, room: int) -> bytes:
        """The next piece of the content; one byte more than there is room for is enough to show that it is too long."""
        most = min(room + 1, WRITE_BYTES)
        try:
            return await self._volume.run(body.read, most) if body.costly else body.read(most)
        except BadEncoding as error:
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "BadEncoding",
                f"The body can't be decoded: {error}. Send one gzip member a request, or the bytes as they are.",
            ) from None


async def read_plan(request: web.Request, seconds: float | None) -> bytes:
    """The body of a plan, within `seconds`; with None, for as long as something comes now and then."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds or IDLE_SECONDS) as patience:
            while data := await request.content.readany():
                if seconds is None:
                    patience.reschedule(asyncio.get_running_loop().time() + IDLE_SECONDS)
                body += data
                if len(body) > MAX_PLAN_BYTES:
                    raise Refusal(
                        HTTPStatus.UNPROCESSABLE_ENTITY,
                        "BadPlan",
                        f"The upload plan is longer than {MAX_PLAN_BYTES} bytes: let the app write fewer files.",
                    )
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT,
            "PlanTooSlow",
            f"The upload plan did not arrive within {seconds or IDLE_SECONDS:.0f} s: try again.",
        ) from None
    return bytes(body)


def body_of(request: web.Request) -> Plain:
    """How the body is to be read, as its Content-Encoding says."""
    encoding = ", ".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    if encoding in ("", "identity"):
        return Plain()
    if encoding == GZIP:
        return Gzip()
    raise Refusal(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "UnknownEncoding",
        f"The body has Content-Encoding {encoding!r}: send it as {GZIP}, or as it is.",
        headers={"Accept-Encoding": GZIP},
    )


def wrong_offset(sha256: str, held: int, what: str) -> Refusal:
    """409 with the offset to go on from; `what` has happened."""
    return Refusal(
        HTTPStatus.CONFLICT,
        "WrongOffset",
        f"{what}: send the bytes from {held} on.",
        resume=BlobStatus(sha256=sha256, offset=held),
    )


def too_long(sha256: str, size: int) -> Refusal:
    """422: the body goes beyond what the plan says."""
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "TooManyBytes",
        f"The plan gives blob {sha256} {size} bytes, and this body goes beyond them: PUT a plan that fits the file.",
    )
