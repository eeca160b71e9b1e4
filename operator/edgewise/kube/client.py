"""Raw requests to the API server, as bytes and plain dictionaries.

Owns connections, time limits and the shape of errors; where the server is and how to prove who asks is read by the
Kubernetes client's configuration. It knows no kind and never retries: who asks decides whether a question may be asked
twice.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from msgspec import DecodeError, Struct, json

CALL_LIMIT = timedelta(seconds=15)
MERGE_PATCH = "application/merge-patch+json"
READ_BYTES = 2**21
"""How much of a watch is read ahead: a single event may be large."""


class Unreachable(Exception):
    """The API server gave no answer. Trying again later is right."""


class Refused(Exception):
    """The API server said no. `reason` is Kubernetes' word for why (NotFound, Conflict, AlreadyExists, Expired …)."""

    def __init__(self, question: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{question}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def passes(self) -> bool:
        """Whether the server is busy or broken, so that the same question may be answered later."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class _Status(Struct):
    reason: str = ""
    message: str = ""


class KubeClient:
    """One API server, asked with one identity.

    Only configuration and TLS are the Kubernetes client's. Its requests copy every body value by value in Python before
    they encode it, which was a seventh of the operator's CPU in a burst of jobs.
    """

    def __init__(self, configuration: client.Configuration, session: aiohttp.ClientSession) -> None:
        self._configuration = configuration
        self._session = session
        self._route: dict[str, Any] = {"proxy": configuration.proxy, "proxy_headers": configuration.proxy_headers}
        if configuration.tls_server_name:
            self._route["server_hostname"] = configuration.tls_server_name

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> "KubeClient":
        """A client for the cluster of `kubeconfig`, or for the one that this pod runs in. Sends nothing yet.

        Raises `kubernetes.aio.config.ConfigException` when neither can be read.
        """
        configuration = client.Configuration()
        if kubeconfig is not None:
            await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
        context = client.ApiClient(configuration).rest_client.ssl_context
        connector = aiohttp.TCPConnector(limit=configuration.connection_pool_maxsize, ssl=context)
        agent = {"User-Agent": "edgewise"}
        return cls(configuration, aiohttp.ClientSession(connector=connector, headers=agent, read_bufsize=READ_BYTES))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        limit: timedelta = CALL_LIMIT,
    ) -> bytes:
        """Send one request and return the answer's body.

        Raises `Refused` for an answer of 400 and above, `Unreachable` when there is none within `limit`.
        """
        try:
            request = await self._request(method, path, query, accept, limit.total_seconds())
            if body is not None:
                request["data"] = json.encode(body)
                request["headers"]["Content-Type"] = content_type
            async with self._session.request(**request) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:  # TimeoutError is an OSError
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _refused(f"{method} {path}", response.status, content)
        return content

    async def lines(self, path: str, query: Mapping[str, str], *, silence: timedelta) -> AsyncIterator[bytes]:
        """The lines of a watch, until the server ends it.

        Raises `Unreachable` when the stream breaks or is silent for over `silence`, `Refused` when there is none.
        """
        question = f"watch {path}"
        try:
            async with asyncio.timeout(CALL_LIMIT.total_seconds()):
                request = await self._request("GET", path, query, "application/json", None)
                response = await self._session.request(**request)
            try:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _refused(question, response.status, await response.read())
                rest = b""
                while chunk := await _next(response.content, silence):
                    *complete, rest = (rest + chunk).split(b"\n")
                    for line in complete:
                        yield line
            finally:
                response.close()
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:
            raise Unreachable(f"{question}: {error or type(error).__name__}") from error

    async def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, accept: str, seconds: float | None
    ) -> dict[str, Any]:
        """What aiohttp is asked for; the token is read anew when its time is over."""
        headers = {"Accept": accept}
        token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        return {
            "method": method,
            "url": self._configuration.host + path,
            "params": query,
            "headers": headers,
            "timeout": aiohttp.ClientTimeout(total=seconds),
            **self._route,
        }


async def _next(stream: aiohttp.StreamReader, silence: timedelta) -> bytes:
    """What comes next, empty at the end. Raises TimeoutError after `silence`."""
    async with asyncio.timeout(silence.total_seconds()):
        return await stream.readany()


def _refused(question: str, status: int, content: bytes) -> Refused:
    try:
        answer = json.decode(content, type=_Status)
    except (DecodeError, UnicodeDecodeError):
        answer = _Status("", content[:500].decode(errors="replace"))
    return Refused(question, status, answer.reason, answer.message)
