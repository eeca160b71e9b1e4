"""The gateway's interface as an OpenAPI 3.1 document, its bodies taken from the structs that the handlers use."""

from typing import Any

from edgewise_agent.wire import OFFSET_HEADER, BlobStatus, Manifest, Problem, UploadPlan, UploadStatus
from msgspec import json

from edgewise.gateway.attempts import AttemptFiles, AttemptList
from edgewise.gateway.bundle_store import Bundle
from edgewise.gateway.bundles import BundleList
from edgewise.gateway.files import Listing
from edgewise.gateway.streams import MOST_FILES_A_PAGE, StreamListing

_UID = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
_TAR = "application/x-tar"
_TEXT = {"type": "string"}
_REFUSALS = {
    401: "no token, or one that the API server does not accept",
    403: "not allowed",
    503: "the API server can't be asked: try again",
}
_UPLOAD_REFUSALS = _REFUSALS | {
    410: "the job is deleted, or its status has later attempts only: discard these results",
    422: "a body, header or path that breaks a rule",
    425: "the attempt is not in the job's status yet, or its plan is not here: try again from the plan on",
    507: "the results volume, or the namespace's quota, is full: try again later",
}
_READ_REFUSALS = _REFUSALS | {404: "no such job or file, no results yet, or removed"}


def document() -> dict[str, Any]:
    """The document that /v1/openapi.json serves."""
    bodies = (
        UploadPlan,
        UploadStatus,
        BlobStatus,
        Manifest,
        Problem,
        Listing,
        AttemptList,
        AttemptFiles,
        StreamListing,
        Bundle,
        BundleList,
    )
    _, schemas = json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    job = "/v1/namespaces/{namespace}/jobs/{job}"
    bundles = "/v1/namespaces/{namespace}/bundles"
    stream = "/v1/namespaces/{namespace}/streams/{stream}"
    attempt = f"{job}/attempts/{{number}}"
    upload = "/v1/uploads/{job}/{pod}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Edgewise gateway",
            "version": "v1",
            "description": "Takes results from the agents of an edge fleet and serves them to users. Users send a "
            "Kubernetes token or show a client certificate of the cluster; who may get a job or a stream may read "
            "its files.",
        },
        "security": [{"token": []}, {"certificate": []}],
        "paths": {
            f"{job}/files": {
                "get": _operation("What a job has brought home", _json("Listing"), _READ_REFUSALS),
                "parameters": _job_parameters(),
            },
            f"{job}/files/{{name}}": _file("One file", "text/csv", _job_parameters()),
            f"{job}/archive.tar": _archive("tar", "application/x-tar", _job_parameters()),
            f"{job}/archive.zip": _archive("zip", "application/zip", _job_parameters()),
            f"{job}/attempts": {
                "get": _operation("Which attempts have come home", _json("AttemptList"), _READ_REFUSALS),
                "parameters": _job_parameters(),
            },
            f"{attempt}/files": {
                "get": _operation("What an attempt left in its output folder", _json("AttemptFiles"), _READ_REFUSALS),
                "parameters": _attempt_parameters(),
            },
            f"{attempt}/files/{{name}}": _file("An output of an attempt", "text/csv", _attempt_parameters()),
            f"{attempt}/logs": {
                "get": _operation(
                    "What an attempt's containers said: the listing, or the newest log as text",
                    _json("AttemptFiles") | _bytes("text/plain"),
                    _READ_REFUSALS | _RANGE_REFUSAL,
                    _partial("text/plain"),
                ),
                "parameters": _attempt_parameters(),
            },
            f"{attempt}/logs/{{name}}": _file("One log of an attempt", "text/plain", _attempt_parameters()),
            f"{stream}/files": {
                "get": _operation(
                    "What a stream has brought home, page by page",
                    _json("StreamListing"),
                    _READ_REFUSALS | {422: "a limit that no page can have"},
                ),
                "parameters": [*_stream_parameters(), *_PAGE_PARAMETERS],
            },
            f"{stream}/files/{{run}}/{{name}}": _file(
                "One file of a stream's run",
                "text/csv",
                [*_stream_parameters(), _path("run", _TEXT, "the run's EdgeJob: the first part of the listed name")],
            ),
            f"{stream}/archive.tar": _archive("tar", "application/x-tar", _stream_parameters()),
            f"{stream}/archive.zip": _archive("zip", "application/zip", _stream_parameters()),
            upload: {
                "put": _operation("Says what an attempt will send", _json("UploadStatus"), _UPLOAD_REFUSALS)
                | {"requestBody": {"required": True, "content": _json("UploadPlan")}},
                "get": _operation("Whether a complete upload is settled", _json("UploadStatus"), _UPLOAD_REFUSALS),
                "parameters": _upload_parameters(),
            },
            f"{upload}/blobs/{{sha256}}": {
                "patch": _operation(
                    "Appends to a blob",
                    _json("BlobStatus"),
                    _UPLOAD_REFUSALS | {415: "a Content-Encoding other than gzip"},
                    _CONFLICT,
                )
                | {"requestBody": {"required": True, "content": _bytes("application/octet-stream")}},
                "parameters": [
                    *_upload_parameters(),
                    _path("sha256", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "the blob"),
                    {
                        "name": OFFSET_HEADER,
                        "in": "header",
                        "required": True,
                        "schema": {"type": "integer", "minimum": 0},
                        "description": "the position in the blob, in bytes, of the body's first byte",
                    },
                    {
                        "name": "Content-Encoding",
                        "in": "header",
                        "schema": {"enum": ["identity", "gzip"]},
                        "description": "gzip: the body is one gzip member; positions count what it holds",
                    },
                ],
            },
            f"{upload}/complete": {
                "post": _operation("Verifies and stores it all", _json("Manifest"), _UPLOAD_REFUSALS, _CONFLICT),
                "parameters": _upload_parameters(),
            },
            bundles: {
                "put": _storing(),
                "get": _operation(
                    "The bundles of a namespace",
                    _json("BundleList"),
                    _REFUSALS | {404: "no namespace can have that name"},
                ),
                "parameters": [_path("namespace", _TEXT, "the namespace whose EdgeApps may name them")],
            },
            f"{bundles}/{{digest}}": {
                "get": _operation("A bundle's tar", _bytes(_TAR), _BUNDLE_REFUSALS, _partial(_TAR)),
                "head": _operation("The tar's headers, without its bytes", {}, _BUNDLE_REFUSALS, _partial(_TAR)),
                "parameters": [
                    _path("namespace", _TEXT, "the namespace that has it"),
                    _path("digest", {"type": "string", "pattern": "^(sha256:)?[0-9a-f]{64}$"}, "which one"),
                ],
            },
            "/v1/openapi.json": {
                "get": {
                    "summary": "This document",
                    "security": [],
                    "responses": {"200": {"description": "done", "content": {"application/json": {}}}},
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "a Kubernetes token"},
                "certificate": {
                    "type": "mutualTLS",
                    "description": "a client certificate of the cluster; not for uploads",
                },
            },
        },
    }


def _storing() -> dict[str, Any]:
    refusals = _REFUSALS | {
        404: "no namespace can have that name",
        503: "the API server can't be asked, or other bundles are arriving: try again",
        408: "nothing arrived for a while, or not all within an hour",
        413: "more bytes or files than a bundle may have",
        415: "a Content-Encoding other than gzip",
        422: "no tar, or one with what can't be in a bundle",
        507: "the volume, or the namespace's quota, is full, or it has as many bundles as one may have",
    }
    made = {"201": {"description": "stored", "content": _json("Bundle")}}
    return _operation("Stores a folder as a bundle; 200: it was there already", _json("Bundle"), refusals, made) | {
        "requestBody": {"required": True, "content": _bytes(_TAR) | _bytes("application/gzip")}
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _bytes(media_type: str) -> dict[str, Any]:
    return {media_type: {}}


def _partial(media_type: str) -> dict[str, Any]:
    return {
        "206": {"description": "the range that was asked for", "content": _bytes(media_type)},
        "304": {"description": "the content is the one that If-None-Match names"},
    }


def _file(what: str, media_type: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    refusals = _READ_REFUSALS | _RANGE_REFUSAL
    content = _bytes(media_type) | _bytes("application/octet-stream")
    return {
        "get": _operation(what, content, refusals, _partial(media_type)),
        "head": _operation(f"{what}, without its bytes", {}, refusals, _partial(media_type)),
        "parameters": [*parameters, _path("name", _TEXT, "its name in the listing, with its slashes")],
    }


def _archive(kind: str, media_type: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "get": _operation(f"All files in one {kind}", _bytes(media_type), _READ_REFUSALS),
        "head": _operation(f"The {kind}, without its bytes", {}, _READ_REFUSALS),
        "parameters": parameters,
    }


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json("Problem")}


_RANGE_REFUSAL = {416: "no byte of the file is in the range"}
_BUNDLE_REFUSALS = (
    _REFUSALS
    | _RANGE_REFUSAL
    | {
        404: "the namespace has no such bundle",
        412: "If-Match names other content",
    }
)
_CONFLICT = {
    "409": {
        "description": "the wrong offset, or bytes missing; the body says which and where to go on",
        "content": {
            "application/json": {
                "schema": {
                    "allOf": [{"$ref": "#/components/schemas/Problem"}, {"$ref": "#/components/schemas/BlobStatus"}]
                }
            }
        },
    }
}


def _operation(
    summary: str, content: dict[str, Any], refusals: dict[int, str], more: dict[str, Any] | None = None
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "done", "content": content}}
    responses |= {str(status): _problem(description) for status, description in refusals.items()}
    return {"summary": summary, "responses": responses | (more or {})}


def _path(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _job_parameters() -> list[dict[str, Any]]:
    return [
        _path("namespace", _TEXT, "the EdgeJob's namespace"),
        _path("job", _TEXT, "the EdgeJob's name; the newest one of that name is meant"),
        {"name": "uid", "in": "query", "schema": _UID, "description": "a certain EdgeJob of that name instead"},
    ]


def _stream_parameters() -> list[dict[str, Any]]:
    return [
        _path("namespace", _TEXT, "the EdgeStream's namespace"),
        _path("stream", _TEXT, "the EdgeStream's name; the newest one of that name is meant"),
        {"name": "uid", "in": "query", "schema": _UID, "description": "a certain EdgeStream of that name instead"},
    ]


_PAGE_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_FILES_A_PAGE, "default": 1000},
        "description": "how many files a page has at most",
    },
    {"name": "after", "in": "query", "schema": _TEXT, "description": "the name of the last file of the page before"},
]


def _attempt_parameters() -> list[dict[str, Any]]:
    number = {"type": "integer", "minimum": 1}
    return [*_job_parameters(), _path("number", number, "the attempt's number in the job's status")]


def _upload_parameters() -> list[dict[str, Any]]:
    return [_path("job", _UID, "the EdgeJob's UID"), _path("pod", _UID, "the UID of the attempt's pod")]
