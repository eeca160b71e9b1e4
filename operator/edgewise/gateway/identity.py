"""Who is asking. Owns what a token must show to upload or to read; decides nothing about jobs.

An agent is known by two things of its token, and both matter: the username, since any pod could ask for the audience,
and the node that the token is bound to, since one stolen device must not speak for another. Users bring their own
Kubernetes token, or a client certificate of the cluster's CA, and RBAC on the EdgeJob decides.
"""

import hashlib
import ssl
import time
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import web
from cachetools import TTLCache
from edgewise_agent.wire import AUDIENCE
from msgspec import json

from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.plans import is_object_name
from edgewise.gateway.problems import Refusal
from edgewise.kube.client import Refused, Unreachable
from edgewise.kube.tokens import Review, Tokens, User

Answer = TypeVar("Answer")

ALLOWED_SECONDS: Final = 10.0
"""How long a user's permission for a job or stream is remembered; a refusal is not."""

READABLE: Final = {"edgejobs": "EdgeJob", "edgestreams": "EdgeStream"}
"""The kinds whose files are served, by their plural."""


class Identity:
    """Answers for every request whom it comes from, or refuses it."""

    def __init__(self, tokens: Tokens, cluster: Cluster, agent_username: str) -> None:
        """`agent_username` is the agents' ServiceAccount as `system:serviceaccount:<namespace>:<name>`."""
        self._tokens = tokens
        self._cluster = cluster
        self._agent_username = agent_username
        self._allowed: TTLCache[tuple[bytes, str, str, str], bool] = TTLCache(4096, ALLOWED_SECONDS, time.monotonic)

    async def agent_node(self, request: web.Request) -> str:
        """The name of the node whose agent sends `request`. Raises `Refusal` (401, 403, 503)."""
        review = await self._review(_bearer(request), AUDIENCE)
        if not review.authenticated:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "TokenRefused",
                f"The API server does not accept this token for the audience {AUDIENCE!r}: "
                "send the projected token that kubelet renews.",
            )
        if review.user.username != self._agent_username or not review.user.node:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "NotAnAgent",
                f"Uploads are for the pods of {self._agent_username} with a token bound to their node; this token is "
                f"{review.user.username}'s{'' if review.user.node else ' and names no node'}.",
            )
        return review.user.node

    async def admit_reader(self, request: web.Request, namespace: str, name: str, plural: str = "edgejobs") -> None:
        """Returns if the user who sends `request` may get that object of `READABLE`.

        Raises `Refusal` (401, 403, 404, 503).
        """
        if "Authorization" in request.headers or (user := _certified(request)) is None:
            user = await self._bearer_of(_bearer(request))
        kind = READABLE[plural]
        if not is_object_name(namespace) or not is_object_name(name):
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                f"NoSuch{kind.removeprefix('Edge')}",
                f"{namespace!r}/{name!r} can't be the name of an {kind}: check it.",
            )
        key = (hashlib.sha256(json.encode(user)).digest(), plural, namespace, name)
        if key in self._allowed:
            return
        if not await asking(self._cluster.may_get(user, plural, namespace, name)):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "NotAllowed",
                f"{user.username} may not get {plural}.edgewise.dev {name} in namespace {namespace}: ask an "
                f"admin for a Role that allows it (try `kubectl auth can-i get {plural}.edgewise.dev/{name} "
                f"-n {namespace}`).",
            )
        self._allowed[key] = True

    async def admit_app_user(self, request: web.Request, namespace: str, verb: str) -> None:
        """Returns if the user may do that with EdgeApps of the namespace. Raises `Refusal` (401, 403, 404, 503)."""
        if "Authorization" in request.headers or (user := _certified(request)) is None:
            user = await self._bearer_of(_bearer(request))
        if not is_object_name(namespace):
            raise Refusal(
                HTTPStatus.NOT_FOUND, "NoSuchNamespace", f"{namespace!r} can't be the name of a Namespace: check it."
            )
        if not await asking(self._cluster.may_use_apps(user, verb, namespace)):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "NotAllowed",
                f"{user.username} may not {verb} edgeapps.edgewise.dev in namespace {namespace}: ask an admin for a "
                f"Role that allows it (try `kubectl auth can-i {verb} edgeapps.edgewise.dev -n {namespace}`).",
            )

    async def admit_app_reader(self, request: web.Request, namespace: str) -> None:
        """Returns if the request is an agent's, or a user's who may get EdgeApps there. Raises `Refusal`.

        For what an agent can only ask for when a pod on its device names it.
        """
        if "Authorization" in request.headers:
            user = (await self._review(_bearer(request), AUDIENCE)).user
            if user.username == self._agent_username and user.node and is_object_name(namespace):
                return
        await self.admit_app_user(request, namespace, "get")

    async def _bearer_of(self, token: str) -> User:
        review = await self._review(token, None)
        if not review.authenticated:
            review = await self._review(token, AUDIENCE)
        if not review.authenticated:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "TokenRefused",
                "The API server does not accept this token: send a fresh one, for example from "
                "`kubectl create token NAME`, as `Authorization: Bearer TOKEN`.",
            )
        return review.user

    async def _review(self, token: str, audience: str | None) -> Review:
        try:
            return await self._tokens.review(token, audience)
        except (Refused, Unreachable) as error:
            raise _cluster_unreachable(error) from error


async def asking(question: Awaitable[Answer]) -> Answer:
    """The API server's answer to a question of `Cluster`; a `Refusal` (503) when there is none."""
    try:
        return await question
    except ClusterUnreachable as error:
        raise _cluster_unreachable(error) from error


def _cluster_unreachable(error: Exception) -> Refusal:
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ClusterUnreachable",
        f"The API server could not be asked ({error}): try again in a few seconds.",
    )


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            "NoToken",
            "Send a Kubernetes token as `Authorization: Bearer TOKEN`, or show a client certificate of the cluster.",
        )
    return token.strip()


def _certified(request: web.Request) -> User | None:
    """Whom the connection's client certificate names, as the API server reads it; None without one.

    TLS has checked it against the cluster's CA already; the connection may be older than the certificate's end.
    """
    certificate = request.get_extra_info("peercert")
    if not certificate:
        return None
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
        raise Refusal(
            HTTPStatus.UNAUTHORIZED, "CertificateExpired", "The client certificate has expired: connect with a new one."
        )
    subject = [pair for names in certificate["subject"] for pair in names]
    users = [value for name, value in subject if name == "commonName"]
    if not users or not users[-1]:
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            "CertificateNamesNobody",
            "The client certificate has no common name: show another.",
        )
    groups = [value for name, value in subject if name == "organizationName"]
    return User(username=users[-1], groups=(*groups, "system:authenticated"))
