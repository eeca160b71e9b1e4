"""Operator and gateway as an agent sees them: a real HTTPS server that keeps to wire.py and can be made to fail."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web
from edgewise_agent.wire import (
    OFFSET_HEADER,
    SESSION_COOKIE,
    Beat,
    BeatAnswer,
    BlobStatus,
    LoggedPod,
    Manifest,
    Problem,
    ResultFile,
    UploadPlan,
    UploadStatus,
    read_beat,
)
from msgspec import DecodeError, json

NODE = "edge-1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Fault:
    """What goes wrong with the next request of `method` whose path ends with `suffix`.

    With a `status` the request is answered so; without one the connection is cut after `keep_bytes` of the body, which
    the gateway keeps.
    """

    method: str
    suffix: str = ""
    status: int | None = None
    keep_bytes: int = 0
    body: bytes | None = None


@dataclass
class Upload:
    """What the gateway holds of one attempt."""

    plan: UploadPlan | None = None
    blobs: dict[str, bytearray] = field(default_factory=dict)
    manifest: Manifest | None = None

    def accepts(self, plan: UploadPlan) -> bool:
        """Take the plan, unless it was made ahead of the pod's end and the plan of the whole is here."""
        if plan.ahead and self.plan is not None and not self.plan.ahead:
            return False
        self.plan = plan
        return True

    def files(self) -> dict[str, bytes]:
        """Content by name."""
        assert self.plan is not None
        return {file.name: bytes(self.blobs.get(file.sha256, b"")) for file in self.plan.files}

    def logs(self) -> dict[str, bytes]:
        """Each log by `{container}/{start}.log`."""
        assert self.plan is not None
        return {file.name: bytes(self.blobs.get(file.sha256, b"")) for file in self.plan.logs}


class Cluster:
    """A faithful gateway and operator in memory, with what they saw and the faults that they are to show."""

    def __init__(self) -> None:
        self.url = ""
        self.beats: list[Beat] = []
        self.live_pods: tuple[str, ...] | None = None
        self.running = 0
        self.logs_of: tuple[LoggedPod, ...] = ()
        """pods without output volume whose logs the operator names until a beat reports them"""
        self.tokens: set[str] = set()
        self.token = "token-1"
        self.session = ""
        """what is given for a token; empty for an operator that knows no sessions"""
        self.shown: list[str] = []
        """whether each beat came with the token or in a session"""
        self.beat_sizes: list[int] = []
        self.uploads: dict[str, Upload] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.patched: list[tuple[int, int]] = []
        """offset and length of every PATCH that was taken"""
        self.bodies: list[tuple[str, int]] = []
        """encoding and length of the body of every PATCH that was taken"""
        self.completed_order: list[str] = []
        self.settled = False
        """whether the operator has decided about what is complete"""
        self.bundles: dict[tuple[str, str], bytes] = {}
        """tars by namespace and SHA-256"""
        self.ranges: list[str] = []
        """what was asked of bundles"""
        self.silent = False
        """Whether requests are taken and never answered."""
        self._transports: set[asyncio.Transport] = set()

    @asynccontextmanager
    async def serve(self, context: ssl.SSLContext, port: int = 0, *, unpacks: bool = True) -> AsyncIterator["Cluster"]:
        """Serve on loopback while the context lasts; `url` says where.

        One that does not unpack is of before compression: it takes packed bytes for the content.
        """
        app = web.Application(middlewares=[self._admit], client_max_size=2**26)
        path = "/v1/uploads/{job}/{pod}"
        app.add_routes(
            [
                web.post("/v1/beats", self._beat),
                web.put(path, self._plan),
                web.get(path, self._status),
                web.patch(path + "/blobs/{sha256}", self._patch),
                web.post(path + "/complete", self._complete),
                web.get("/v1/namespaces/{namespace}/bundles/sha256:{sha256}", self._bundle),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=1, handler_cancellation=True, auto_decompress=unpacks)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
            # An orderly end of TLS would outlive the test's event loop.
            for transport in self._transports:
                transport.abort()
            await asyncio.sleep(0)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        assert request.transport is not None
        self._transports.add(request.transport)
        if self.silent:
            await asyncio.Event().wait()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.tokens.add(token)
        fault = next((f for f in self.faults if f.method == request.method and request.path.endswith(f.suffix)), None)
        if fault is not None:
            self.faults.remove(fault)
            if fault.status is None:
                await self._cut(request, fault.keep_bytes)
            elif fault.body is not None:
                return web.Response(status=fault.status, body=fault.body)
            else:
                return _problem(fault.status, "Scripted", "a scripted fault")
        in_session = bool(self.session) and request.cookies.get(SESSION_COOKIE) == self.session
        if request.path == "/v1/beats":
            self.shown.append("token" if token else "session")
        if token != self.token and not in_session:
            return _problem(401, "BadToken", "the token is not accepted: is it the projected one?")
        response: web.StreamResponse = await handler(request)
        return response

    async def _cut(self, request: web.Request, keep_bytes: int) -> None:
        """Keep the first bytes of a blob as a gateway does that fsyncs what came, then cut the connection."""
        if request.method == "PATCH" and keep_bytes:
            upload = self.uploads[f"{request.match_info['job']}/{request.match_info['pod']}"]
            content = await request.content.readexactly(keep_bytes)
            upload.blobs.setdefault(request.match_info["sha256"], bytearray()).extend(content)
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError

    async def _beat(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
            beat = read_beat(body)
        except DecodeError as error:
            return _problem(422, "BadBeat", str(error))
        self.beats.append(beat)
        self.beat_sizes.append(len(body))
        reported = {volume.pod_uid for volume in beat.volumes}
        answer = BeatAnswer(
            received_at=datetime.now(UTC),
            live_pods=self.live_pods,
            running=self.running,
            logs_of=tuple(pod for pod in self.logs_of if pod.pod_uid not in reported),
            session=self.session if "Authorization" in request.headers else "",
        )
        return _json(answer)

    async def _plan(self, request: web.Request) -> web.Response:
        upload = self._upload(request)
        try:
            plan = json.decode(await request.read(), type=UploadPlan)
        except DecodeError as error:
            return _problem(422, "BadPlan", str(error))
        if not upload.accepts(plan):
            return _problem(409, "TooLate", "the plan of the whole is here")
        return _json(UploadStatus(missing=self._missing(upload), complete=upload.manifest is not None))

    async def _status(self, request: web.Request) -> web.Response:
        upload = self.uploads.get(f"{request.match_info['job']}/{request.match_info['pod']}")
        if upload is None or upload.manifest is None:
            return _problem(425, "NotComplete", "PUT the plan first")
        return _json(UploadStatus(missing=(), complete=True, settled=self.settled))

    async def _patch(self, request: web.Request) -> web.Response:
        upload, sha256 = self._upload(request), request.match_info["sha256"]
        assert upload.plan is not None
        planned = (*upload.plan.files, *upload.plan.logs)
        size = next((file.bytes_ for file in planned if file.sha256 == sha256), None)
        if size is None:
            return _problem(422, "NotInPlan", f"no file of the plan has SHA-256 {sha256}")
        blob = upload.blobs.setdefault(sha256, bytearray())
        offset = int(request.headers[OFFSET_HEADER])
        if offset != len(blob):
            return _json(BlobStatus(sha256=sha256, offset=len(blob)), 409)
        received = 0
        async for block in request.content.iter_any():
            received += len(block)
            blob += block
        self.patched.append((offset, received))
        self.bodies.append((request.headers.get("Content-Encoding", ""), int(request.headers["Content-Length"])))
        return _json(BlobStatus(sha256=sha256, offset=len(blob)))

    async def _complete(self, request: web.Request) -> web.Response:
        upload = self._upload(request)
        if upload.plan is None or upload.plan.ahead:
            return _problem(425, "NoPlan", "PUT the plan first")
        for sha256, blob in list(upload.blobs.items()):
            if hashlib.sha256(blob).hexdigest() != sha256:
                del upload.blobs[sha256]
        if missing := self._missing(upload):
            return web.Response(
                status=409,
                body=json.encode(
                    {
                        "reason": "BytesMissing",
                        "detail": "PUT the plan again",
                        "sha256": missing[0].sha256,
                        "offset": missing[0].offset,
                    }
                ),
            )
        plan = upload.plan
        upload.manifest = Manifest(
            namespace=plan.namespace,
            job=plan.job,
            job_uid=request.match_info["job"],
            pod_uid=request.match_info["pod"],
            attempt=plan.attempt,
            node=NODE,
            completed_at=datetime.now(UTC),
            files=tuple(ResultFile(name=f.name, bytes_=f.bytes_, sha256=f.sha256) for f in plan.files),
            logs=tuple(ResultFile(name=f.name, bytes_=f.bytes_, sha256=f.sha256) for f in plan.logs),
            refused=plan.refused,
            refused_count=plan.refused_count,
            skipped=plan.skipped,
            logs_only=plan.logs_only,
        )
        self.completed_order.append(request.match_info["pod"])
        return _json(upload.manifest)

    async def _bundle(self, request: web.Request) -> web.Response:
        """One range of a bundle's tar."""
        sha256 = request.match_info["sha256"]
        tar = self.bundles.get((request.match_info["namespace"], sha256))
        if tar is None:
            return _problem(404, "NoSuchBundle", f"there is no bundle {sha256}")
        assert request.headers["If-Match"] == f'"{sha256}"'
        self.ranges.append(request.headers["Range"])
        first, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        if first >= len(tar):
            return _problem(416, "RangeNotSatisfiable", f"it has {len(tar)} bytes")
        return web.Response(status=206, body=tar[first : last + 1])

    def _upload(self, request: web.Request) -> Upload:
        return self.uploads.setdefault(f"{request.match_info['job']}/{request.match_info['pod']}", Upload())

    @staticmethod
    def _missing(upload: Upload) -> tuple[BlobStatus, ...]:
        assert upload.plan is not None
        sizes = {file.sha256: file.bytes_ for file in (*upload.plan.files, *upload.plan.logs)}
        held = {sha256: len(upload.blobs.get(sha256, b"")) for sha256 in sizes}
        return tuple(BlobStatus(sha256=s, offset=held[s]) for s, size in sizes.items() if held[s] < size)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.encode(body), content_type="application/json")


def _problem(status: int, reason: str, detail: str) -> web.Response:
    return _json(Problem(reason=reason, detail=detail), status)
