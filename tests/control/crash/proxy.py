"""A proxy between one operator and the API server: what happens to a request or a watch event is a `Treatment`'s word.

Plain HTTP on loopback in front, the administrator's TLS behind. It changes nothing by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import yarl
from aiohttp import web
from kubernetes.aio import client, config
from msgspec import json

PASSED_ON: Final = ("Accept", "Content-Type", "User-Agent")
LARGEST_BODY: Final = 64 * 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A request of the operator."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes

    @property
    def watches(self) -> bool:
        """Whether it asks for a watch."""
        return self.query.get("watch") == "true"

    @property
    def writes(self) -> bool:
        """Whether it changes what the API server keeps."""
        return self.method != "GET" and not self.path.endswith("/tokenreviews")

    @property
    def decides(self) -> bool:
        """Whether it carries out a decision: about a job, or about a job's pod."""
        return self.writes and ("/edgejobs/" in self.path or ("/pods" in self.path and not self._labels))

    @property
    def _labels(self) -> bool:
        return self.method == "PATCH" and b"edgewise.dev/leader" in self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """The API server's answer, or one that was made up."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def refusal(status: HTTPStatus, reason: str, **headers: str) -> Answer:
    """An answer as the API server refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    whole = body | {"message": f"made up by a test: {reason}"}
    return Answer(status, json.encode(whole), {"Content-Type": "application/json", **headers})


class Dropped(Exception):
    """The connection breaks, and nobody answers."""


class Treatment:
    """What is done to requests and events. This one lets all pass."""

    async def answer(self, question: Question, forward: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to a question. Raises `Dropped` for none."""
        return await forward()

    async def event(self, question: Question, line: bytes) -> bytes:
        """A line of a watch as the operator gets it; empty: never. Raises `Dropped` to break the stream."""
        return line


class Proxy:
    """One proxy on a port of its own, for one operator process: nothing of a dead process reaches the next one's."""

    def __init__(self, treatment: Treatment, kubeconfig: Path) -> None:
        self._treatment = treatment
        self._kubeconfig = kubeconfig
        self._upstream = ""
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port of loopback; `url` is its address then."""
        configuration = client.Configuration()
        await config.load_kube_config(config_file=str(self._kubeconfig), client_configuration=configuration)
        self._upstream = configuration.host
        trust = client.ApiClient(configuration).rest_client.ssl_context
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=2**22)
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Break every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        question = Question(request.method, request.path, dict(request.query), await request.read())
        upstream = yarl.URL(self._upstream + request.raw_path, encoded=True)
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        try:
            if question.watches:
                return await self._stream(request, question, upstream, headers)

            async def forward() -> Answer:
                return await self._forward(question, upstream, headers)

            answer = await self._treatment.answer(question, forward)
            return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
        except (Dropped, aiohttp.ClientError, ConnectionError):
            return _broken(request)

    async def _forward(self, question: Question, upstream: yarl.URL, headers: dict[str, str]) -> Answer:
        if self._session is None:
            raise Dropped
        body = question.body or None
        async with self._session.request(question.method, upstream, data=body, headers=headers) as response:
            kept = {"Content-Type": response.headers.get("Content-Type", "application/json")}
            return Answer(response.status, await response.read(), kept)

    async def _stream(
        self, request: web.Request, question: Question, upstream: yarl.URL, headers: dict[str, str]
    ) -> web.StreamResponse:
        if self._session is None:
            raise Dropped
        endless = aiohttp.ClientTimeout(total=None)
        async with self._session.get(upstream, headers=headers, timeout=endless) as response:
            stream = web.StreamResponse(status=response.status)
            stream.content_type = "application/json"
            await stream.prepare(request)
            async for line in response.content:
                if kept := await self._treatment.event(question, line):
                    await stream.write(kept)
            await stream.write_eof()
            return stream


def _broken(request: web.Request) -> web.Response:
    """Nothing: the connection is cut."""
    with suppress(AttributeError):
        if request.transport is not None:
            request.transport.abort()
    return web.Response()


async def cut_off(question: Question) -> Answer:
    """What a question gets whose asker has just been killed."""
    await asyncio.sleep(0)
    raise Dropped(question.path)
