"""Sending stored content: whole files, ranges, and archives. Knows nothing of who may have it.

A name in a request is looked up in a manifest by the caller and never used as a path on disk.
"""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import quote

from aiohttp import web
from edgewise_agent.wire import Manifest, ResultFile

from edgewise.gateway.archive import Packed
from edgewise.gateway.metrics import Metrics
from edgewise.gateway.problems import Refusal
from edgewise.gateway.tls import bound_unsent
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

CHUNK_BYTES = 32 * 1024
UNSENT_BYTES = 32 * 1024
"""How much waits in memory for a slow reader, above TLS and below it, before no more is read for it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` (not included) of a file."""

    start: int
    end: int


class Content:
    """Answers with what the store holds."""

    def __init__(self, volume: Volume, metrics: Metrics) -> None:
        self._volume = volume
        self._metrics = metrics

    async def ensure(self, manifest: Manifest, files: Iterable[ResultFile]) -> None:
        """Returns if all of these files of `manifest` are on the volume, in their full size. Raises `Refusal` (404)."""
        removed = await self._volume.removed(manifest.job_uid, manifest.pod_uid)
        if removed is not None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "Removed",
                f"The files of attempt {manifest.attempt} of EdgeJob {manifest.namespace}/{manifest.job} were removed "
                f"at {removed.at:%Y-%m-%dT%H:%M:%SZ}. {removed.why}",
            )
        lost = await self._volume.lost_of(manifest.job_uid, files)
        if lost is not None:
            raise content_lost(lost, f"EdgeJob {manifest.namespace}/{manifest.job}")

    async def send_file(
        self, request: web.Request, manifest: Manifest, file: ResultFile, content_type: str, disposition: str
    ) -> web.StreamResponse:
        """The bytes of a file of `manifest`, or the range of them that the request names; none for a HEAD."""
        await self.ensure(manifest, (file,))

        async def opened() -> BinaryIO:
            return await self.open(manifest.job_uid, file, f"EdgeJob {manifest.namespace}/{manifest.job}")

        return await self.send_opened(request, file, opened, content_type, disposition)

    async def send_opened(
        self,
        request: web.Request,
        file: ResultFile,
        opened: Callable[[], Awaitable[BinaryIO]],
        content_type: str,
        disposition: str,
    ) -> web.StreamResponse:
        """The same of any file whose size and SHA-256 are known; `opened` is asked only when bytes are to be sent."""
        headers = {
            "ETag": f'"{file.sha256}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "Content-Type": content_type,
            "Content-Disposition": disposition,
            "X-Content-Type-Options": "nosniff",
        }
        if "If-Match" in request.headers and not _matches(request.headers["If-Match"], file.sha256):
            raise Refusal(
                HTTPStatus.PRECONDITION_FAILED,
                "OtherContent",
                f'{file.name!r} has the ETag "{file.sha256}", which If-Match does not name: fetch it from the start.',
            )
        if _matches(request.headers.get("If-None-Match", ""), file.sha256):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=_without_type(headers))
        span = _span(request, file)
        status = HTTPStatus.OK
        if span is None:
            span = Span(0, file.bytes_)
        else:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.bytes_}"
        source = await opened()
        try:
            return await self.send(request, status, headers, span.end - span.start, self._read(source, span))
        finally:
            await self._volume.run(source.close)

    async def read(self, packed: Packed) -> AsyncGenerator[bytes, None]:
        """The bytes of a file of an archive, piece by piece."""
        source = await self.open(packed.job_uid, packed.file, f"the job with UID {packed.job_uid}")
        try:
            async with aclosing(self._read(source, Span(0, packed.file.bytes_))) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await self._volume.run(source.close)

    async def send(
        self,
        request: web.Request,
        status: HTTPStatus,
        headers: dict[str, str],
        length: int | None,
        pieces: AsyncGenerator[bytes, None],
    ) -> web.StreamResponse:
        """Sends the headers, and the body unless the request is a HEAD; memory stays bounded by one piece."""
        response = web.StreamResponse(status=status, headers=headers)
        if length is not None:
            response.content_length = length
        if request.transport is not None:
            bound_unsent(request.transport, UNSENT_BYTES)
        await response.prepare(request)
        if request.method != "HEAD":
            try:
                async with aclosing(pieces):
                    async for piece in pieces:
                        await response.write(piece)
                        self._metrics.sent_bytes.inc(len(piece))
            except (OSError, Refusal) as error:
                if request.transport is not None and not request.transport.is_closing():
                    logger.exception("%s %s is cut off", request.method, request.rel_url.raw_path)
                    request.transport.abort()
                raise ConnectionAbortedError(str(error)) from error
        await response.write_eof()
        return response

    async def open(self, job_uid: str, file: ResultFile, of: str) -> BinaryIO:
        """The content of a file of a job; `of` says whose it is, for people. Raises `Refusal` (404)."""
        try:
            return await self._volume.open_blob(job_uid, file.sha256)
        except FileNotFoundError:
            raise content_lost(file, of) from None

    async def _read(self, source: BinaryIO, span: Span) -> AsyncGenerator[bytes, None]:
        rest = span.end - span.start
        await self._volume.run(source.seek, span.start)
        while rest > 0:
            piece = await self._volume.run(source.read, min(rest, CHUNK_BYTES))
            if not piece:
                raise ConnectionAbortedError(f"{source.name} is {rest} bytes short: the answer is cut off here")
            rest -= len(piece)
            yield piece


def content_lost(file: ResultFile, of: str) -> Refusal:
    """A file that should be on the volume is not; `of` says whose it is."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "ContentLost",
        f"The content of {file.name!r} of {of} (SHA-256 {file.sha256}) is not on the results volume any more, though "
        "nobody removed it: an admin should restore it from a backup.",
    )


def archive_headers(name: str, tag: str, content_type: str) -> dict[str, str]:
    """The headers of an archive that is saved as `name`; `tag` changes with what is in it."""
    return {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, no-cache",
        "Content-Type": content_type,
        "Content-Disposition": attachment(name),
        "X-Content-Type-Options": "nosniff",
    }


def attachment(name: str) -> str:
    """A Content-Disposition that saves the body under the last part of `name`."""
    name = name.rpartition("/")[2]
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _span(request: web.Request, file: ResultFile) -> Span | None:
    """The one range that is asked for; None for the whole file, as for anything that is no single range of bytes."""
    condition = request.headers.get("If-Range")
    if condition is not None and condition != f'"{file.sha256}"':
        return None
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("Range", "").strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, file.bytes_) if last else file.bytes_
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(0, file.bytes_ - int(last)), file.bytes_
    if start >= end:
        raise Refusal(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "RangeNotSatisfiable",
            f"{file.name!r} has {file.bytes_} bytes: ask for a range within them.",
            headers={"Content-Range": f"bytes */{file.bytes_}"},
        )
    return Span(start, end)


def _matches(condition: str, sha256: str) -> bool:
    """Whether an If-Match or If-None-Match names the content."""
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or f'"{sha256}"' in tags


def _without_type(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Content-Type"}
