"""Which path is answered by which handler. Owns the two aiohttp applications; each handler lives in its own module."""

import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from edgewise.gateway import openapi
from edgewise.gateway.attempts import Attempts
from edgewise.gateway.bundles import Bundles
from edgewise.gateway.files import Files
from edgewise.gateway.metrics import Metrics
from edgewise.gateway.problems import Handler, json_response, problems_as_json
from edgewise.gateway.streams import Streams
from edgewise.gateway.uploads import Uploads
from edgewise.gateway.volume import Volume

_UPLOAD = "/v1/uploads/{job}/{pod}"
_JOB = "/v1/namespaces/{namespace}/jobs/{job}"
_STREAM = "/v1/namespaces/{namespace}/streams/{stream}"
_BUNDLES = "/v1/namespaces/{namespace}/bundles"
_ATTEMPT = f"{_JOB}/attempts/{{number}}"


def public_app(
    uploads: Uploads, files: Files, attempts: Attempts, streams: Streams, bundles: Bundles, metrics: Metrics
) -> web.Application:
    """What is served over TLS, to agents and users."""
    document = openapi.document()

    async def get_openapi(_: web.Request) -> web.Response:
        return json_response(document)

    app = web.Application(middlewares=[_counting(metrics), problems_as_json])
    app.add_routes(
        [
            web.put(_UPLOAD, uploads.put_plan),
            web.get(_UPLOAD, uploads.get_status, allow_head=False),
            web.patch(f"{_UPLOAD}/blobs/{{sha256}}", uploads.patch_blob),
            web.post(f"{_UPLOAD}/complete", uploads.post_complete),
            web.get(f"{_JOB}/files", files.get_listing, allow_head=False),
            web.get(f"{_JOB}/files/{{name:.+}}", files.get_file),
            web.get(f"{_JOB}/archive.tar", files.get_tar),
            web.get(f"{_JOB}/archive.zip", files.get_zip),
            web.get(f"{_JOB}/attempts", attempts.get_attempts, allow_head=False),
            web.get(f"{_ATTEMPT}/files", attempts.get_files, allow_head=False),
            web.get(f"{_ATTEMPT}/files/{{name:.+}}", attempts.get_file),
            web.get(f"{_ATTEMPT}/logs", attempts.get_logs, allow_head=False),
            web.get(f"{_ATTEMPT}/logs/{{name:.+}}", attempts.get_log),
            web.get(f"{_STREAM}/files", streams.get_listing, allow_head=False),
            web.get(f"{_STREAM}/files/{{run}}/{{name:.+}}", streams.get_file),
            web.get(f"{_STREAM}/archive.tar", streams.get_tar),
            web.get(f"{_STREAM}/archive.zip", streams.get_zip),
            web.put(_BUNDLES, bundles.put),
            web.get(_BUNDLES, bundles.get_list, allow_head=False),
            web.get(f"{_BUNDLES}/{{digest}}", bundles.get_bundle),
            web.get("/v1/openapi.json", get_openapi, allow_head=False),
        ]
    )
    return app


def probes_app(
    metrics: Metrics, waiting_for: Callable[[], str | None], volume: Callable[[], Volume | None]
) -> web.Application:
    """What is served over plain HTTP inside the cluster. `waiting_for` says why the gateway is not ready, or None."""

    async def get_healthz(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def get_readyz(_: web.Request) -> web.Response:
        reason = waiting_for()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def get_metrics(_: web.Request) -> web.Response:
        if (opened := volume()) is not None:
            metrics.free_bytes.set(await opened.free_bytes())
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", get_healthz), web.get("/readyz", get_readyz), web.get("/metrics", get_metrics)])
    return app


def _counting(metrics: Metrics) -> Middleware:
    @web.middleware
    async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        began = time.monotonic()
        status = 0
        try:
            response = await handler(request)
            status = response.status
        finally:
            metrics.requests.labels(route, request.method, str(status) if status else "broken off").inc()
            metrics.seconds.labels(route).observe(time.monotonic() - began)
        return response

    return counting
