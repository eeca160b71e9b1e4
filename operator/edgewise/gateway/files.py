"""The users' side of the gateway: which files a job has brought home, and their bytes.

Serves published results only. The name in a path is looked up in the job's manifest and never used as a path on disk.
"""

import logging
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import BinaryIO, Literal
from urllib.parse import quote

from aiohttp import web
from cachetools import TTLCache
from edgewise_agent.wire import UID, Manifest, RefusedFile, ResultFile
from msgspec import Struct, ValidationError, convert

from edgewise.gateway.announce import Announcer
from edgewise.gateway.archive import archive_length, archive_pieces
from edgewise.gateway.cluster import Cluster
from edgewise.gateway.identity import Identity, asking
from edgewise.gateway.metrics import Metrics
from edgewise.gateway.problems import Refusal, json_response
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
JOB_SECONDS = 2.0
"""How long the answer to 'which job has this name' is remembered."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` (not included) of a file."""

    start: int
    end: int


class ListedFile(Struct, frozen=True, kw_only=True, rename="camel"):
    """One file of a listing. `rows` as in `ResultFile`; `url` names the same bytes for good."""

    name: str
    bytes_: int
    sha256: str
    url: str
    rows: int | None = None


class Listing(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a job brought home. `Partial`: some files were refused; `Pending` and `Uploading`: nothing published yet."""

    namespace: str
    job: str
    uid: str
    state: Literal["Pending", "Uploading", "Complete", "Partial"]
    attempt: int | None = None
    node: str | None = None
    completed_at: datetime | None = None
    skipped: int = 0
    refused_count: int = 0
    refused: tuple[RefusedFile, ...] = ()
    files: tuple[ListedFile, ...] = ()


class Files:
    """The handlers below /v1/namespaces/{namespace}/jobs/{job}."""

    def __init__(
        self, volume: Volume, cluster: Cluster, identity: Identity, announcer: Announcer, metrics: Metrics
    ) -> None:
        self._volume = volume
        self._cluster = cluster
        self._identity = identity
        self._announcer = announcer
        self._metrics = metrics
        self._current: TTLCache[tuple[str, str], str] = TTLCache(4096, JOB_SECONDS, time.monotonic)

    async def get_listing(self, request: web.Request) -> web.Response:
        """GET files: what there is, with the state of the results. Empty as long as nothing is published."""
        namespace, job, job_uid = await self._admitted(request)
        manifest = await self._published(job_uid)
        if manifest is None:
            uploading = await self._volume.is_uploading(job_uid)
            return json_response(
                Listing(namespace=namespace, job=job, uid=job_uid, state="Uploading" if uploading else "Pending")
            )
        base = f"{request.scheme}://{request.host}/v1/namespaces/{namespace}/jobs/{job}/files"
        return json_response(
            Listing(
                namespace=namespace,
                job=job,
                uid=job_uid,
                attempt=manifest.attempt,
                node=manifest.node,
                state="Partial" if manifest.refused_count else "Complete",
                completed_at=manifest.completed_at,
                skipped=manifest.skipped,
                refused_count=manifest.refused_count,
                refused=manifest.refused,
                files=tuple(
                    ListedFile(
                        name=file.name,
                        bytes_=file.bytes_,
                        rows=file.rows,
                        sha256=file.sha256,
                        url=f"{base}/{quote(file.name)}?uid={job_uid}",
                    )
                    for file in manifest.files
                ),
            )
        )

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD files/{name}: the bytes, or the range of them that the request names."""
        manifest = await self._results(request)
        name = request.match_info["name"]
        file = next((file for file in manifest.files if file.name == name), None)
        if file is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "NoSuchFile",
                f"EdgeJob {manifest.namespace}/{manifest.job} brought home no file {name!r}: its listing names "
                f"the {len(manifest.files)} that there are.",
            )
        headers = {
            "ETag": f'"{file.sha256}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "Content-Type": "text/csv; charset=utf-8" if file.rows is not None else "application/octet-stream",
            "Content-Disposition": _attachment(name.rpartition("/")[2]),
            "X-Content-Type-Options": "nosniff",
        }
        if _matches(request.headers.get("If-None-Match", ""), file.sha256):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=_without_type(headers))
        span = _span(request, file)
        status = HTTPStatus.OK
        if span is None:
            span = Span(0, file.bytes_)
        else:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.bytes_}"
        source = await self._open(manifest, file)
        try:
            return await self._send(request, status, headers, span.end - span.start, self._read(source, span))
        finally:
            await self._volume.run(source.close)

    async def get_archive(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD archive.tar: all files in one, in the listing's order."""
        manifest = await self._results(request)
        headers = {
            "ETag": f'"{manifest.pod_uid}"',
            "Cache-Control": "private, no-cache",
            "Content-Type": "application/x-tar",
            "Content-Disposition": _attachment(f"{manifest.job}.tar"),
            "X-Content-Type-Options": "nosniff",
        }
        return await self._send(
            request, HTTPStatus.OK, headers, archive_length(manifest), archive_pieces(manifest, self._contents)
        )

    async def _admitted(self, request: web.Request) -> tuple[str, str, str]:
        """Namespace, name and UID of the job that the request names, once the user is seen to be allowed to read it."""
        namespace, job = request.match_info["namespace"], request.match_info["job"]
        await self._identity.admit_reader(request, namespace, job)
        asked = request.query.get("uid")
        if asked is not None:
            kept = await self._volume.job(asked) if _is_uid(asked) else None
            if kept is not None and (kept.namespace, kept.name) == (namespace, job):
                return namespace, job, asked
            if await self._current_uid(namespace, job) == asked:
                return namespace, job, asked
            raise _no_such_job(namespace, job, f" with UID {asked!r}")
        current = await self._current_uid(namespace, job) or await self._volume.newest(namespace, job)
        if current is None:
            raise _no_such_job(namespace, job, "")
        return namespace, job, current

    async def _current_uid(self, namespace: str, job: str) -> str | None:
        """The UID of the EdgeJob that has this name now."""
        known = self._current.get((namespace, job))
        if known is not None:
            return known
        view = await asking(self._cluster.edge_job(namespace, job))
        if view is None:
            return None
        self._current[namespace, job] = view.metadata.uid
        return view.metadata.uid

    async def _published(self, job_uid: str) -> Manifest | None:
        """The job's published results, those included whose verdict is not known here yet."""
        manifest = await self._volume.published(job_uid)
        if manifest is None:
            await self._announcer.ask_now(job_uid)
            manifest = await self._volume.published(job_uid)
        return manifest

    async def _results(self, request: web.Request) -> Manifest:
        namespace, job, job_uid = await self._admitted(request)
        manifest = await self._published(job_uid)
        if manifest is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "NoResultsYet",
                f"EdgeJob {namespace}/{job} has no results yet: wait with `kubectl wait --for=condition=Complete "
                f"edgejob/{job} -n {namespace}`.",
            )
        return manifest

    async def _open(self, manifest: Manifest, file: ResultFile) -> BinaryIO:
        try:
            return await self._volume.open_blob(manifest.job_uid, file.sha256)
        except FileNotFoundError:
            raise Refusal(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "ContentLost",
                f"The content of {file.name!r} of EdgeJob {manifest.namespace}/{manifest.job} (SHA-256 {file.sha256}) "
                "is not on the results volume any more: an admin should restore it from a backup.",
            ) from None

    async def _contents(self, manifest: Manifest, file: ResultFile) -> AsyncGenerator[bytes, None]:
        source = await self._open(manifest, file)
        try:
            async with aclosing(self._read(source, Span(0, file.bytes_))) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await self._volume.run(source.close)

    async def _read(self, source: BinaryIO, span: Span) -> AsyncGenerator[bytes, None]:
        rest = span.end - span.start
        await self._volume.run(source.seek, span.start)
        while rest > 0:
            piece = await self._volume.run(source.read, min(rest, CHUNK_BYTES))
            if not piece:
                raise ConnectionAbortedError(f"{source.name} is {rest} bytes short: the answer is cut off here")
            rest -= len(piece)
            yield piece

    async def _send(
        self,
        request: web.Request,
        status: HTTPStatus,
        headers: dict[str, str],
        length: int,
        pieces: AsyncGenerator[bytes, None],
    ) -> web.StreamResponse:
        """Sends the headers, and the body unless the request is a HEAD; memory stays bounded by one piece."""
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
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
    """Whether an If-None-Match names the content."""
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or f'"{sha256}"' in tags


def _attachment(name: str) -> str:
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _without_type(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Content-Type"}


def _is_uid(value: str) -> bool:
    try:
        convert(value, UID)
    except ValidationError:
        return False
    return True


def _no_such_job(namespace: str, job: str, which: str) -> Refusal:
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "NoSuchJob",
        f"There is no EdgeJob {namespace}/{job}{which}, nor results of one: `kubectl get edgejobs -n {namespace}` "
        "lists those that there are.",
    )
