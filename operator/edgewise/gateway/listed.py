"""How files are listed, found and named to clients. Pure but for the request's own address."""

from http import HTTPStatus
from urllib.parse import quote

from aiohttp import web
from edgewise_agent.wire import Manifest, ResultFile
from msgspec import Struct

from edgewise.gateway.problems import Refusal


class ListedFile(Struct, frozen=True, kw_only=True, rename="camel"):
    """One file of a listing. `rows` as in `ResultFile`; `url` names the same bytes for good."""

    name: str
    bytes_: int
    sha256: str
    url: str
    rows: int | None = None


def listed(request: web.Request, path: str, job_uid: str, files: tuple[ResultFile, ...]) -> tuple[ListedFile, ...]:
    """The files with the addresses below `path` that the request's client can use."""
    base = f"{request.scheme}://{request.host}{path}"
    return tuple(
        ListedFile(
            name=file.name,
            bytes_=file.bytes_,
            rows=file.rows,
            sha256=file.sha256,
            url=f"{base}/{quote(file.name)}?uid={job_uid}",
        )
        for file in files
    )


def find_file(manifest: Manifest, files: tuple[ResultFile, ...], name: str) -> ResultFile:
    """The file of that name among those of `manifest`. Raises `Refusal` (404)."""
    file = next((file for file in files if file.name == name), None)
    if file is None:
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            "NoSuchFile",
            f"Attempt {manifest.attempt} of EdgeJob {manifest.namespace}/{manifest.job} brought home no file {name!r}: "
            f"its listing names the {len(files)} that there are.",
        )
    return file


def media_type(file: ResultFile) -> str:
    """What a result is sent as."""
    return "text/csv; charset=utf-8" if file.rows is not None else "application/octet-stream"
