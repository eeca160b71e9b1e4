"""What each attempt of a job left, be its files the job's results or not: partial outputs and logs.

So that a job can be understood after its pods and devices are gone.
"""

import re
from datetime import datetime
from http import HTTPStatus

from aiohttp import web
from edgewise_agent.wire import Manifest, RefusedFile, ResultFile, Verdict
from msgspec import Struct

from edgewise.gateway.content import Content, attachment
from edgewise.gateway.listed import ListedFile, find_file, listed, media_type
from edgewise.gateway.problems import Refusal, json_response
from edgewise.gateway.readers import Asked, Readers, results_lost
from edgewise.gateway.records import KeptAttempt
from edgewise.gateway.volume import Volume

_LOG_TYPE = "text/plain; charset=utf-8"


class ListedAttempt(Struct, frozen=True, kw_only=True, rename="camel"):
    """One attempt that has come home. `verdict`: Published (the job's results), Superseded (not), or Pending.

    `files` and `logs` are counts, `bytes` is the size of the files. `removedAt`: since when their content is gone.
    """

    number: int
    pod_uid: str
    node: str
    completed_at: datetime
    verdict: Verdict
    bytes_: int
    files: int
    logs: int
    removed_at: datetime | None = None


class AttemptList(Struct, frozen=True, kw_only=True, rename="camel"):
    """The attempts of a job that have come home, by number."""

    namespace: str
    job: str
    uid: str
    attempts: tuple[ListedAttempt, ...]


class AttemptFiles(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one attempt left: its `files` or its `logs`, whichever was asked for."""

    namespace: str
    job: str
    uid: str
    attempt: int
    pod_uid: str
    node: str
    completed_at: datetime
    verdict: Verdict
    removed_at: datetime | None = None
    skipped: int = 0
    refused_count: int = 0
    refused: tuple[RefusedFile, ...] = ()
    files: tuple[ListedFile, ...] = ()
    logs: tuple[ListedFile, ...] = ()


class Attempts:
    """The handlers below /v1/namespaces/{namespace}/jobs/{job}/attempts."""

    def __init__(self, volume: Volume, readers: Readers, content: Content) -> None:
        self._volume = volume
        self._readers = readers
        self._content = content

    async def get_attempts(self, request: web.Request) -> web.Response:
        """GET attempts: which have come home."""
        asked = await self._readers.admit(request)
        attempts = tuple(
            ListedAttempt(
                number=kept.manifest.attempt,
                pod_uid=kept.manifest.pod_uid,
                node=kept.manifest.node,
                completed_at=kept.manifest.completed_at,
                verdict=kept.verdict,
                bytes_=sum(file.bytes_ for file in kept.manifest.files),
                files=len(kept.manifest.files),
                logs=len(kept.manifest.logs),
                removed_at=kept.removed.at if kept.removed else None,
            )
            for kept in await self._volume.attempts(asked.uid)
        )
        return json_response(AttemptList(namespace=asked.namespace, job=asked.name, uid=asked.uid, attempts=attempts))

    async def get_files(self, request: web.Request) -> web.Response:
        """GET attempts/{number}/files: the listing of its outputs."""
        asked, kept = await self._attempt(request)
        manifest = kept.manifest
        path = f"{asked.path}/attempts/{manifest.attempt}/files"
        return json_response(_described(kept, files=listed(request, path, asked.uid, manifest.files)))

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD attempts/{number}/files/{name}: the bytes of an output."""
        _, kept = await self._attempt(request)
        file = find_file(kept.manifest, kept.manifest.files, request.match_info["name"])
        return await self._content.send_file(request, kept.manifest, file, media_type(file), attachment(file.name))

    async def get_logs(self, request: web.Request) -> web.StreamResponse:
        """GET attempts/{number}/logs: their listing, or the newest container's log for who asks for plain text."""
        asked, kept = await self._attempt(request)
        manifest = kept.manifest
        if not _wants_text(request.headers.get("Accept", "")):
            path = f"{asked.path}/attempts/{manifest.attempt}/logs"
            return json_response(_described(kept, logs=listed(request, path, asked.uid, manifest.logs)))
        if not manifest.logs:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "NoLogs",
                f"Attempt {manifest.attempt} of EdgeJob {asked.namespace}/{asked.name} brought home no logs.",
            )
        return await self._send_log(request, manifest, max(manifest.logs, key=_restart))

    async def get_log(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD attempts/{number}/logs/{name}: what one run of a container said."""
        _, kept = await self._attempt(request)
        log = find_file(kept.manifest, kept.manifest.logs, request.match_info["name"])
        return await self._send_log(request, kept.manifest, log)

    async def _send_log(self, request: web.Request, manifest: Manifest, log: ResultFile) -> web.StreamResponse:
        return await self._content.send_file(request, manifest, log, _LOG_TYPE, "inline")

    async def _attempt(self, request: web.Request) -> tuple[Asked, KeptAttempt]:
        """The attempt of that number; of several pods that were it, the one that came home last."""
        asked = await self._readers.admit(request)
        number = request.match_info["number"]
        for kept in reversed(await self._volume.attempts(asked.uid)):
            if str(kept.manifest.attempt) == number:
                return asked, kept
        if asked.results is not None and str(asked.results.attempt) == number:
            raise results_lost(asked, asked.results)
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            "NoSuchAttempt",
            f"Nothing of attempt {number} of EdgeJob {asked.namespace}/{asked.name} is here (yet): "
            f"{asked.path}/attempts lists those that have come home.",
        )


def _described(
    kept: KeptAttempt, files: tuple[ListedFile, ...] = (), logs: tuple[ListedFile, ...] = ()
) -> AttemptFiles:
    manifest = kept.manifest
    return AttemptFiles(
        namespace=manifest.namespace,
        job=manifest.job,
        uid=manifest.job_uid,
        attempt=manifest.attempt,
        pod_uid=manifest.pod_uid,
        node=manifest.node,
        completed_at=manifest.completed_at,
        verdict=kept.verdict,
        removed_at=kept.removed.at if kept.removed else None,
        skipped=manifest.skipped,
        refused_count=manifest.refused_count,
        refused=manifest.refused,
        files=files,
        logs=logs,
    )


def _restart(log: ResultFile) -> int:
    """Which run of its container a log is of; logs are named `<container>/<restart>.log`."""
    match = re.fullmatch(r".*/([0-9]{1,9})\.log", log.name)
    return int(match.group(1)) if match else -1


def _wants_text(accept: str) -> bool:
    """Whether the header asks for plain text by name, and for JSON not before."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "text/plain" in kinds and "application/json" not in kinds[: kinds.index("text/plain")]
