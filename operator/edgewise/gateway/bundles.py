"""Apps' own files: the handlers below /v1/namespaces/{namespace}/bundles, and the rounds that remove unwanted ones.

Owns the order of the checks and the stream from the network to a scratch file. What a bundle may hold is for
tarball.py to say, and where it lies for bundle_store.py.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from aiohttp import web
from edgewise_agent.wire import SHA256, ResultFile
from msgspec import Struct, ValidationError, convert, json

from edgewise.gateway.bundle_store import Bundle, BundleStore
from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.content import Content, attachment
from edgewise.gateway.durable import noticing_full_volume, write_all
from edgewise.gateway.encoding import GZIP, BadEncoding, Gzip, Plain
from edgewise.gateway.identity import Identity
from edgewise.gateway.problems import Refusal, json_response
from edgewise.gateway.quota import Quotas
from edgewise.gateway.tarball import MAX_ENTRIES, BadTar, TooMuch
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
WRITE_BYTES = 512 * 1024
AT_ONCE = 4
"""Bundles that are taken at once, one a namespace; each needs room for what was sent and for what it becomes."""
TURN_SECONDS = 60.0
"""How long a push waits for its turn."""
MOST_SECONDS = 3600.0
"""How long one may take to arrive: nobody keeps others from their turn for ever."""
MAX_BUNDLES = 1000
"""Bundles that a namespace may have."""
FRAME_BYTES = MAX_ENTRIES * 4096
"""What a tar may have besides its files' bytes."""
ROUND_SECONDS = 3600.0

_TAR = "application/x-tar"
_GZIPPED = frozenset({"application/gzip", "application/x-gzip", "application/x-gtar-compressed"})


class BundleList(Struct, frozen=True, kw_only=True, rename="camel"):
    """The bundles of a namespace."""

    namespace: str
    bundles: tuple[Bundle, ...]


class Bundles:
    """The handlers."""

    def __init__(
        self,
        volume: Volume,
        store: BundleStore,
        cluster: Cluster,
        identity: Identity,
        quotas: Quotas,
        content: Content,
        most_bytes: int,
    ) -> None:
        """`most_bytes` is how much the files of one bundle may have."""
        self._volume = volume
        self._store = store
        self._cluster = cluster
        self._identity = identity
        self._quotas = quotas
        self._content = content
        self._most_bytes = most_bytes
        self._receiving = asyncio.Semaphore(AT_ONCE)
        self._pushing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changing = asyncio.Lock()

    async def put(self, request: web.Request) -> web.Response:
        """PUT: takes a tar, and answers with the digest by which EdgeApps name it; 201 when it was not there before."""
        namespace = request.match_info["namespace"]
        await self._identity.admit_app_user(request, namespace, "create")
        body = _body(request)
        async with self._turn(namespace), self._scratch() as sent, self._scratch() as packed:
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    sent_bytes = await self._receive(request, body, sent)
            except TimeoutError:
                raise _too_slow(f"The tar did not arrive within {MOST_SECONDS:.0f} s") from None
            await self._volume.require_room(sent_bytes)
            try:
                bundle = await self._volume.run(self._store.pack, sent, packed, self._most_bytes)
            except TooMuch as problem:
                raise _too_large(str(problem)) from None
            except BadTar as problem:
                raise Refusal(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "BadBundle", f"The tar can't be a bundle: {problem}."
                ) from None
            async with self._changing:
                if await self._volume.run(self._store.get, namespace, bundle.sha256) is None:
                    await self._admit_one_more(namespace)
                    await self._quotas.admit_bundle(namespace, bundle.tar_bytes)
                    await self._volume.require_room(0)
                new = await self._volume.run(self._store.keep, namespace, bundle, packed)
        status = HTTPStatus.CREATED if new else HTTPStatus.OK
        return web.Response(body=json.encode(bundle), status=status, content_type="application/json")

    async def get_list(self, request: web.Request) -> web.Response:
        """GET: the namespace's bundles."""
        namespace = request.match_info["namespace"]
        await self._identity.admit_app_user(request, namespace, "get")
        held = await self._volume.run(self._store.held, namespace)
        return json_response(BundleList(namespace=namespace, bundles=tuple(held)))

    async def get_bundle(self, request: web.Request) -> web.StreamResponse:
        """GET or HEAD of one bundle: its canonical tar, or the range of it that the request names."""
        namespace = request.match_info["namespace"]
        await self._identity.admit_app_reader(request, namespace)
        sha256 = _sha256(request)
        bundle = await self._volume.run(self._store.get, namespace, sha256)
        if bundle is None:
            raise _no_such(namespace, sha256)

        async def opened() -> BinaryIO:
            try:
                return await self._volume.run(self._store.open, namespace, sha256)
            except FileNotFoundError:
                raise _no_such(namespace, sha256) from None

        file = ResultFile(name=f"{sha256}.tar", bytes_=bundle.tar_bytes, sha256=sha256)
        return await self._content.send_opened(request, file, opened, _TAR, attachment(file.name))

    async def remove_unwanted(self, kept: timedelta, now: datetime) -> int:
        """One round: the bundles that no EdgeApp has named for so long go; how many. Raises `ClusterUnreachable`."""
        for namespace, sha256 in await self._cluster.bundles_named():
            await self._volume.run(self._store.want, namespace, sha256, now)
        removed = 0
        before = now - kept
        for namespace, sha256 in await self._volume.run(self._store.unwanted_since, before):
            async with self._changing:
                if await self._volume.run(self._store.remove, namespace, sha256, before):
                    logger.info(
                        "namespace %s: bundle %s is removed: no EdgeApp named it for %s", namespace, sha256, kept
                    )
                    removed += 1
        return removed

    async def keep_wanted(self, kept: timedelta | None) -> None:
        """A round now and every hour, until cancelled; none where bundles are kept for ever."""
        while kept is not None:
            try:
                await self.remove_unwanted(kept, datetime.now(UTC))
            except (ClusterUnreachable, OSError) as error:
                logger.warning("no bundle is removed in this round: %s", error)
            await asyncio.sleep(ROUND_SECONDS)

    async def _admit_one_more(self, namespace: str) -> None:
        if await self._volume.run(self._store.count, namespace) >= MAX_BUNDLES:
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE,
                "TooManyBundles",
                f"Namespace {namespace} has {MAX_BUNDLES} bundles, as many as one may have. Those that no EdgeApp "
                "names go after a while.",
            )

    @asynccontextmanager
    async def _turn(self, namespace: str) -> AsyncIterator[None]:
        """Waits until the namespace, and the gateway, take the next bundle. Raises `Refusal` (503)."""
        mine = self._pushing.setdefault(namespace, asyncio.Lock())
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await held.enter_async_context(mine)
                    await held.enter_async_context(self._receiving)
            except TimeoutError:
                raise Refusal(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Busy",
                    "Other bundles are still arriving: send this one again later.",
                    headers={"Retry-After": "60"},
                ) from None
            yield

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        path = self._store.scratch()
        try:
            yield path
        finally:
            await self._volume.run(path.unlink, missing_ok=True)

    async def _receive(self, request: web.Request, body: Plain, sent: Path) -> int:
        """Streams the body into a file, decompressed, as far as bundle and volume may go. Returns the file's size."""
        most = self._most_bytes + FRAME_BYTES
        if not body.costly and (request.content_length or 0) > most:
            raise _too_large(f"the tar has {request.content_length} bytes")
        received = 0
        file = await self._volume.run(sent.open, "wb", buffering=0)
        try:
            while data := await _next(request):
                body.feed(data)
                while piece := await self._decoded(body):
                    received += len(piece)
                    if received > most:
                        raise _too_large(f"the tar has more than {most} bytes")
                    await self._volume.require_room(len(piece))
                    await self._volume.run(_write, file.fileno(), piece)
        finally:
            await self._volume.run(file.close)
        if not body.is_whole():
            raise _broken("the gzip member has no end")
        return received

    async def _decoded(self, body: Plain) -> bytes:
        try:
            return await self._volume.run(body.read, WRITE_BYTES) if body.costly else body.read(WRITE_BYTES)
        except BadEncoding as error:
            raise _broken(str(error)) from None


async def _next(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await request.content.readany()
    except TimeoutError:
        raise _too_slow(f"Nothing arrived for {IDLE_SECONDS:.0f} s") from None


def _write(descriptor: int, piece: bytes) -> None:
    with noticing_full_volume():
        write_all(descriptor, piece)


def _body(request: web.Request) -> Plain:
    """How the body is to be read, as Content-Encoding or Content-Type says."""
    encoding = ", ".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    if encoding == GZIP or (encoding in ("", "identity") and request.content_type in _GZIPPED):
        return Gzip()
    if encoding in ("", "identity"):
        return Plain()
    raise Refusal(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "UnknownEncoding",
        f"The body has Content-Encoding {encoding!r}: send it as {GZIP}, or as it is.",
        headers={"Accept-Encoding": GZIP},
    )


def _sha256(request: web.Request) -> str:
    digest = request.match_info["digest"]
    try:
        return str(convert(digest.removeprefix("sha256:"), SHA256))
    except ValidationError:
        raise Refusal(
            HTTPStatus.NOT_FOUND, "NoSuchBundle", f"{digest!r} is no digest: it has the form sha256:<64 hex digits>."
        ) from None


def _no_such(namespace: str, sha256: str) -> Refusal:
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "NoSuchBundle",
        f"Namespace {namespace} has no bundle sha256:{sha256}: PUT its tar to /v1/namespaces/{namespace}/bundles.",
    )


def _too_large(what: str) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BundleTooLarge",
        f"This can't be a bundle: {what}. Leave out what the app does not need, or put it in an image.",
    )


def _too_slow(what: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "TooSlow", f"{what}: send it again.")


def _broken(what: str) -> Refusal:
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY, "BadEncoding", f"The body can't be decoded: {what}. Send the tar again."
    )
