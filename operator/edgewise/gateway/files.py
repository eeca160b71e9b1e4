"""What a job has brought home, and its bytes. Serves published results only; attempts.py serves the others."""

from datetime import datetime
from http import HTTPStatus
from typing import Literal

from aiohttp import web
from edgewise_agent.wire import Manifest, RefusedFile
from msgspec import Struct

from edgewise.gateway.announce import Announcer
from edgewise.gateway.archive import Packed, archive_length, archive_pieces, zip_pieces
from edgewise.gateway.cluster import JobResults
from edgewise.gateway.content import Content, archive_headers, attachment
from edgewise.gateway.listed import ListedFile, find_file, listed, media_type
from edgewise.gateway.problems import Refusal, json_response
from edgewise.gateway.readers import Asked, Readers, results_lost
from edgewise.gateway.volume import Volume


class Listing(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a job brought home. `Partial`: some files were refused; `Pending` and `Uploading`: nothing published yet.

    `Removed`: the time of the files, which are still listed, is over. `Lost`: the job's status names results that are
    not on the volume.
    """

    namespace: str
    job: str
    uid: str
    state: Literal["Pending", "Uploading", "Complete", "Partial", "Removed", "Lost"]
    attempt: int | None = None
    node: str | None = None
    completed_at: datetime | None = None
    removed_at: datetime | None = None
    skipped: int = 0
    refused_count: int = 0
    refused: tuple[RefusedFile, ...] = ()
    files: tuple[ListedFile, ...] = ()


class Files:
    """The handlers of files and archives below /v1/namespaces/{namespace}/jobs/{job}."""

    def __init__(self, volume: Volume, readers: Readers, content: Content, announcer: Announcer) -> None:
        self._volume = volume
        self._readers = readers
        self._content = content
        self._announcer = announcer

    async def get_listing(self, request: web.Request) -> web.Response:
        """GET files: what there is, with the state of the results. Empty as long as nothing is published."""
        asked = await self._readers.admit(request)
        manifest = await self._published(asked.uid)
        if manifest is None:
            state = await self._state_without(asked)
            return json_response(Listing(namespace=asked.namespace, job=asked.name, uid=asked.uid, state=state))
        removed = await self._volume.removed(asked.uid, manifest.pod_uid)
        return json_response(
            Listing(
                namespace=asked.namespace,
                job=asked.name,
                uid=asked.uid,
                attempt=manifest.attempt,
                node=manifest.node,
                state="Removed" if removed else "Partial" if manifest.refused_count else "Complete",
                removed_at=removed.at if removed else None,
                completed_at=manifest.completed_at,
                skipped=manifest.skipped,
                refused_count=manifest.refused_count,
                refused=manifest.refused,
                files=listed(request, f"{asked.path}/files", asked.uid, manifest.files),
            )
        )

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD files/{name}: the bytes, or the range of them that the request names."""
        manifest = await self._results(request)
        file = find_file(manifest, manifest.files, request.match_info["name"])
        return await self._content.send_file(request, manifest, file, media_type(file), attachment(file.name))

    async def get_tar(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD archive.tar: all files in one, in the listing's order."""
        manifest = await self._results(request)
        await self._content.ensure(manifest, manifest.files)
        headers = archive_headers(f"{manifest.job}.tar", manifest.pod_uid, "application/x-tar")
        files = _packed(manifest)
        pieces = archive_pieces(files, self._content.read)
        return await self._content.send(request, HTTPStatus.OK, headers, archive_length(files), pieces)

    async def get_zip(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD archive.zip: the same as a zip; its length is not known before."""
        manifest = await self._results(request)
        await self._content.ensure(manifest, manifest.files)
        headers = archive_headers(f"{manifest.job}.zip", manifest.pod_uid, "application/zip")
        pieces = zip_pieces(_packed(manifest), self._content.read, self._volume.run)
        return await self._content.send(request, HTTPStatus.OK, headers, None, pieces)

    async def _state_without(self, asked: Asked) -> Literal["Pending", "Uploading", "Lost"]:
        """How the results stand of which none are published here."""
        if await self._lost(asked) is not None:
            return "Lost"
        return "Uploading" if await self._volume.is_uploading(asked.uid) else "Pending"

    async def _lost(self, asked: Asked) -> JobResults | None:
        """The results that the job's status names, if no attempt of that pod is here, nor on its way."""
        results = asked.results
        if results is None or results.pod_uid is None:
            return None
        if await self._volume.manifest(asked.uid, results.pod_uid) is not None:
            return None
        return None if await self._volume.plan(asked.uid, results.pod_uid) is not None else results

    async def _published(self, job_uid: str) -> Manifest | None:
        """The job's published results, those included whose verdict is not known here yet."""
        manifest = await self._volume.published(job_uid)
        if manifest is None:
            await self._announcer.ask_now(job_uid)
            manifest = await self._volume.published(job_uid)
        return manifest

    async def _results(self, request: web.Request) -> Manifest:
        asked = await self._readers.admit(request)
        manifest = await self._published(asked.uid)
        if manifest is None:
            lost = await self._lost(asked)
            raise _nothing_yet(asked) if lost is None else results_lost(asked, lost)
        return manifest


def _packed(manifest: Manifest) -> list[Packed]:
    return [Packed(file.name, manifest.completed_at, manifest.job_uid, file) for file in manifest.files]


def _nothing_yet(asked: Asked) -> Refusal:
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "NoResultsYet",
        f"EdgeJob {asked.namespace}/{asked.name} has no results yet: wait with `kubectl wait "
        f"--for=condition=Complete edgejob/{asked.name} -n {asked.namespace}`. What its attempts have left is listed "
        f"at {asked.path}/attempts.",
    )
