"""The operator's door for agents and the gateway: beats and manifests over HTTPS.

Owns the handlers and who may use them: a beat only from the agent's ServiceAccount and for the node in its token, a
manifest only from the gateway's. What is taken in goes to the world; nothing is decided here but a verdict read from
what the job's status says.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from aiohttp import web
from edgewise_agent import wire
from msgspec import DecodeError, Struct, ValidationError, json
from prometheus_client import Counter

from edgewise.beats.sessions import Sessions
from edgewise.domain.podlogs import logs_wanted
from edgewise.domain.verdicts import verdict
from edgewise.domain.views import JobView, Key, PodView
from edgewise.kube.client import Refused, Unreachable
from edgewise.kube.tokens import Tokens, User

LARGEST_BODY: Final = 64 * 2**20

REQUESTS = Counter("edgewise_intake_requests_total", "Requests of agents and gateway", ["path", "status"])

_MANIFEST: Final = json.Decoder(wire.Manifest)

logger = logging.getLogger(__name__)

Body = TypeVar("Body", bound=Struct)


class Receiver(Protocol):
    """Where beats and manifests go (control/world.py)."""

    def heard(self, beat: wire.Beat) -> datetime:
        """A device has reported. Returns when."""

    def offered(self, manifest: wire.Manifest) -> None:
        """The gateway holds these results."""

    def settled(self, manifest: wire.Manifest) -> None:
        """The gateway has been told a final verdict."""

    def pods_on(self, node: str) -> tuple[PodView, ...] | None:
        """The job pods of a device; None while unknown."""

    def job(self, key: Key) -> JobView | None:
        """The job of that name."""

    def is_unreadable(self, uid: str) -> bool:
        """Whether an object of that UID is there but could not be read."""


class Refusal(Exception):
    """A request that can't be served: becomes a `wire.Problem`."""

    def __init__(self, status: HTTPStatus, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = wire.Problem(reason=reason, detail=detail)


class Intake:
    """The web application."""

    def __init__(
        self, receiver: Receiver, tokens: Tokens, agent: str, gateway: str, leads: Callable[[], bool] = lambda: True
    ) -> None:
        """`agent` and `gateway` are their ServiceAccounts' usernames; they are served only while this one `leads`."""
        self._receiver = receiver
        self._tokens = tokens
        self._agent = agent
        self._gateway = gateway
        self._leads = leads
        self._sessions = Sessions()
        self.ready = False
        """whether the caches are complete, so that a verdict and the list of live pods mean something"""

    def application(self) -> web.Application:
        """The aiohttp application, to be served over TLS."""
        application = web.Application(middlewares=[_problems], client_max_size=LARGEST_BODY)
        application.on_response_prepare.append(_shorten)
        application.router.add_post("/v1/beats", self.beat)
        application.router.add_post("/v1/manifests", self.manifest)
        return application

    async def beat(self, request: web.Request) -> web.Response:
        """Take in a beat."""
        known = self._sessions.user(request.cookies.get(wire.SESSION_COOKIE, ""))
        user = known or await self._user(request, self._agent, "beats")
        body = await request.read()
        beat = _decoded(body, wire.read_beat, "Beat")
        self._check_leads()
        if user.node != beat.node:
            detail = f"the token is bound to node {user.node or '(none)'}, the beat is for {beat.node}"
            raise Refusal(HTTPStatus.FORBIDDEN, "WrongNode", detail)
        if beat.benchmark is not None and not _writable(beat.benchmark.measured_at):
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "BadBody", "benchmark.measuredAt is no time in UTC")
        received_at = self._receiver.heard(beat)
        pods = self._receiver.pods_on(beat.node) if self.ready else None
        answer = wire.BeatAnswer(
            received_at=received_at,
            live_pods=None if pods is None else tuple(pod.uid for pod in pods),
            running=sum(not pod.ended for pod in pods or ()),
            logs_of=None if pods is None else logs_wanted(pods, {volume.pod_uid for volume in beat.volumes}),
            # an agent that packs no beats is older than sessions, and would get one with each beat
            session="" if known or wire.is_plain(body) else self._sessions.begin(user),
        )
        return _answer(answer)

    async def manifest(self, request: web.Request) -> web.Response:
        """Take in the manifest of finished results, and say what becomes of them."""
        await self._user(request, self._gateway, "manifests")
        manifest = _decoded(await request.read(), _MANIFEST.decode, "Manifest")
        self._check_leads()  # the caches of a former leader may not know the job, and "gone" deletes its results
        if not self.ready or self._receiver.is_unreadable(manifest.job_uid):
            return _answer(wire.ManifestVerdict(verdict=wire.Verdict.PENDING))
        decided = verdict(manifest, self._receiver.job(Key(manifest.namespace, manifest.job)))
        if decided is wire.Verdict.PENDING:
            self._receiver.offered(manifest)
        else:
            self._receiver.settled(manifest)
        return _answer(wire.ManifestVerdict(verdict=decided))

    def _check_leads(self) -> None:
        if not self._leads():
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "NotLeading", "another operator leads by now: ask again")

    async def _user(self, request: web.Request, username: str, what: str) -> User:
        self._check_leads()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(HTTPStatus.UNAUTHORIZED, "NoToken", "send the projected token: Authorization: Bearer TOKEN")
        try:
            review = await self._tokens.review(token.strip(), wire.AUDIENCE)
        except (Refused, Unreachable) as error:
            detail = f"the API server could not be asked whose token it is ({error}): try again"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "ClusterUnreachable", detail) from error
        if not review.authenticated:
            detail = f"the API server does not accept the token for audience {wire.AUDIENCE}: send a fresh one"
            raise Refusal(HTTPStatus.UNAUTHORIZED, "TokenRefused", detail)
        if review.user.username != username:
            detail = f"{what} are taken from {username} only, the token is {review.user.username}'s"
            raise Refusal(HTTPStatus.FORBIDDEN, "NotAllowed", detail)
        return review.user


async def serve(application: web.Application, port: int, context: ssl.SSLContext | None) -> web.AppRunner:
    """Serve on every address until the runner is cleaned up. Raises OSError when the port is taken."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port, ssl_context=context).start()
    return runner


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn a Refusal into its answer, and count."""
    try:
        response = await handler(request)
    except Refusal as refusal:
        logger.warning("%s from %s: %s", request.path, request.remote, refusal)
        response = _answer(refusal.problem, refusal.status)
        response.force_close()  # the next connection may reach another operator
    REQUESTS.labels(request.path if response.status != HTTPStatus.NOT_FOUND else "", response.status).inc()
    return response


async def _shorten(request: web.Request, response: web.StreamResponse) -> None:
    """Leave out the headers that tell an agent nothing: they are half of what an idle device receives."""
    for header in ("Date", "Server", *(("Content-Type",) if response.status == HTTPStatus.OK else ())):
        response.headers.popall(header, None)


def _decoded(body: bytes, decode: Callable[[bytes], Body], kind: str) -> Body:
    try:
        return decode(body)
    except (ValidationError, DecodeError, UnicodeDecodeError) as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "BadBody", f"the body is no {kind}: {error}") from error


def _writable(time: datetime) -> bool:
    """Whether a time can be written in UTC: the first and last hours of the calendar can't."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _answer(body: Struct, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=json.encode(body), status=status, content_type="application/json")
