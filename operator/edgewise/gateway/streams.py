"""What the runs of an EdgeStream have brought home, all of them together: each file is named `<run>/<name>`.

A file is served as soon as it is home, whether its run goes on, has ended or is gone. Listings come in pages, since a
stream has no end.
"""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from typing import BinaryIO, Final
from urllib.parse import quote, urlencode

from aiohttp import web
from msgspec import Struct

from edgewise.gateway.archive import Packed, archive_length, archive_pieces, zip_pieces
from edgewise.gateway.content import Content, archive_headers, attachment, content_lost
from edgewise.gateway.home import HomeFile
from edgewise.gateway.listed import media_type
from edgewise.gateway.problems import Refusal, json_response
from edgewise.gateway.readers import AskedStream, Readers
from edgewise.gateway.records import JobIdentity
from edgewise.gateway.volume import Volume

FILES_A_PAGE: Final = 1000
MOST_FILES_A_PAGE: Final = 10_000


class StreamFile(Struct, frozen=True, kw_only=True, rename="camel"):
    """A file of a run; `completedAt`: when it came home. `rows` counts a CSV's records after its header."""

    name: str
    bytes_: int
    sha256: str
    completed_at: datetime
    url: str
    rows: int | None = None


class StreamListing(Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of what a stream has brought home, by run and name. `next`: the address of the next page, if there is."""

    namespace: str
    stream: str
    uid: str
    files: tuple[StreamFile, ...]
    next: str | None = None


class Streams:
    """The handlers below /v1/namespaces/{namespace}/streams/{stream}."""

    def __init__(self, volume: Volume, readers: Readers, content: Content) -> None:
        self._volume = volume
        self._readers = readers
        self._content = content

    async def get_listing(self, request: web.Request) -> web.Response:
        """GET files: a page of ?limit= files, those after the one that ?after= names."""
        asked, limit = await self._readers.admit_stream(request), _limit(request)
        base = f"{request.scheme}://{request.host}{asked.path}"
        files: list[StreamFile] = []
        following = None
        async for run, home in self._files(asked, request.query.get("after", "")):
            if len(files) == limit:
                query = urlencode({"uid": asked.uid, "limit": limit, "after": files[-1].name})
                following = f"{base}/files?{query}"
                break
            name = f"{run.name}/{home.file.name}"
            files.append(
                StreamFile(
                    name=name,
                    bytes_=home.file.bytes_,
                    rows=home.file.rows,
                    sha256=home.file.sha256,
                    completed_at=home.at,
                    url=f"{base}/files/{quote(name)}?uid={asked.uid}",
                )
            )
        listing = StreamListing(
            namespace=asked.namespace, stream=asked.name, uid=asked.uid, files=tuple(files), next=following
        )
        return json_response(listing)

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD files/{run}/{name}: the bytes, or the range of them that the request names."""
        asked = await self._readers.admit_stream(request)
        name, run_name = request.match_info["name"], request.match_info["run"]
        run = next((run for run in asked.runs if run.name == run_name), None)
        found = [] if run is None else await self._volume.home_of(run.uid)
        file = next((home.file for home in found if home.file.name == name), None)
        if run is None or file is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "NoSuchFile",
                f"Nothing of the name {run_name}/{name} has come home of {asked}, or its time is over: "
                f"{asked.path}/files lists what there is.",
            )
        uid = run.uid
        if await self._volume.lost_of(uid, (file,)) is not None:
            raise content_lost(file, str(asked))

        async def opened() -> BinaryIO:
            return await self._content.open(uid, file, str(asked))

        return await self._content.send_opened(request, file, opened, media_type(file), attachment(file.name))

    async def get_tar(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD archive.tar: all files in one, in the listing's order."""
        asked = await self._readers.admit_stream(request)
        files = await self._packed(asked)
        headers = archive_headers(f"{asked.name}.tar", _tag(files), "application/x-tar")
        pieces = archive_pieces(files, self._content.read)
        return await self._content.send(request, HTTPStatus.OK, headers, archive_length(files), pieces)

    async def get_zip(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD archive.zip: the same as a zip; its length is not known before."""
        asked = await self._readers.admit_stream(request)
        files = await self._packed(asked)
        headers = archive_headers(f"{asked.name}.zip", _tag(files), "application/zip")
        pieces = zip_pieces(files, self._content.read, self._volume.run)
        return await self._content.send(request, HTTPStatus.OK, headers, None, pieces)

    async def _files(self, asked: AskedStream, after: str) -> AsyncIterator[tuple[JobIdentity, HomeFile]]:
        """The files after that of a name `<run>/<name>`, run by run, oldest first; all of them if it is empty.

        That file, and its run, need not be there any more.
        """
        run_name, _, name = after.partition("/")
        for run in asked.runs:
            if _number(run.name) < _number(run_name):
                continue
            for home in await self._volume.home_of(run.uid):
                if run.name != run_name or home.file.name > name:
                    yield run, home

    async def _packed(self, asked: AskedStream) -> list[Packed]:
        files = []
        for run in asked.runs:
            home = await self._volume.home_of(run.uid)
            if (lost := await self._volume.lost_of(run.uid, [one.file for one in home])) is not None:
                raise content_lost(lost, str(asked))
            files += [Packed(f"{run.name}/{one.file.name}", one.at, run.uid, one.file) for one in home]
        return files


def _number(run: str) -> int:
    """The number in a run's name; 0 where there is none."""
    digits = run.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(FILES_A_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MOST_FILES_A_PAGE):
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "BadLimit", f"limit is {text!r}: ask for 1 to {MOST_FILES_A_PAGE} files."
        )
    return int(text)


def _tag(files: list[Packed]) -> str:
    """What changes with the files of an archive."""
    digest = hashlib.sha256()
    for packed in files:
        digest.update(f"{packed.name}\n{packed.file.sha256}\n".encode())
    return digest.hexdigest()
