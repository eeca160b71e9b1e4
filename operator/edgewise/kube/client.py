"""Raw requests to the API server, as bytes and plain dictionaries.

Owns connection, credentials, time limits and the shape of errors. It knows no kind and never retries: who asks
decides whether a question may be asked twice.
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
    """One API server, asked with one identity."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

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
        configuration.client_session_kwargs = {"trust_env": False}  # else each request reads ~/.netrc again
        api = client.ApiClient(configuration)
        api.user_agent = "edgewise"
        return cls(api)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

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
            async with asyncio.timeout(limit.total_seconds()):
                response = await self._send(method, path, body, query, content_type, accept, limit)
                content: bytes = await response.read()
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
                answer = await self._send("GET", path, None, query, "application/json", "application/json", None)
            try:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise _refused(question, answer.status, await answer.read())
                rest = b""
                while chunk := await _next(answer.response.content, silence):
                    *complete, rest = (rest + chunk).split(b"\n")
                    for line in complete:
                        yield line
            finally:
                answer.response.close()
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:
            raise Unreachable(f"{question}: {error or type(error).__name__}") from error

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        content_type: str,
        accept: str,
        limit: timedelta | None,
    ) -> Any:
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        total = limit.total_seconds() if limit else None
        return await self._api.call_api(*request, _request_timeout=aiohttp.ClientTimeout(total=total))


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
