"""What the gateway asks the API server: may this user read an EdgeJob, how is it, and who signs users' certificates.

Owns what the gateway reads of an EdgeJob. Remembers nothing, and writes nothing but the review itself.
"""

import logging
from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from typing import Final, TypeVar

from edgewise_agent.wire import UID
from msgspec import DecodeError, Struct, field, json

from edgewise.kube.client import KubeClient, Refused, Unreachable
from edgewise.kube.tokens import User
from edgewise.notation import parse_duration

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_PAGE: Final = 500

_AUTHENTICATION: Final = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class ClusterUnreachable(Exception):
    """The API server did not answer, or not with what was asked for. Trying again later is right."""


class JobAttempt(Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry of an EdgeJob's status.attempts, as far as the gateway reads it."""

    number: int = 0
    node: str = ""
    pod_name: str = ""
    pod_uid: str = field(default="", name="podUID")


class Owner(Struct, frozen=True, kw_only=True):
    """Whom an object belongs to."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class _JobMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    namespace: str
    uid: UID
    creation_timestamp: datetime
    owner_references: tuple[Owner, ...] = ()


class _Retention(Struct, frozen=True):
    results: str | None = None


class _JobSpec(Struct, frozen=True):
    retention: _Retention = _Retention()


class JobResults(Struct, frozen=True, kw_only=True, rename="camel"):
    """An EdgeJob's status.results, as far as the gateway reads it."""

    state: str = ""
    attempt: int | None = None
    pod_uid: str | None = field(default=None, name="podUID")

    @property
    def are_home(self) -> bool:
        """Whether the operator has said which attempt's files they are."""
        return self.state in ("Complete", "Partial") and self.pod_uid is not None


class _JobStatus(Struct, frozen=True, kw_only=True):
    attempts: tuple[JobAttempt, ...] = ()
    results: JobResults | None = None


class EdgeJobView(Struct, frozen=True, kw_only=True):
    """An EdgeJob, as far as the gateway reads it."""

    metadata: _JobMeta
    spec: _JobSpec = _JobSpec()
    status: _JobStatus = _JobStatus()

    @property
    def results_seconds(self) -> float | None:
        """How long after completion the results are kept; None: for ever."""
        text = self.spec.retention.results
        if text is None:
            return None
        try:
            return parse_duration(text).total_seconds()
        except ValueError:  # Forever, or what only a later version understands
            return None

    @property
    def stream(self) -> Owner | None:
        """The EdgeStream whose run it is."""
        owners = self.metadata.owner_references
        return next((one for one in owners if one.controller and one.kind == "EdgeStream"), None)

    def attempt_of(self, pod_uid: str) -> JobAttempt | None:
        """The attempt that ran in that pod, once the operator has recorded it."""
        return next((attempt for attempt in self.status.attempts if attempt.pod_uid == pod_uid), None)

    def has_passed(self, number: int) -> bool:
        """Whether the operator will record no more pod as that attempt.

        Another pod has its number, or the status begins with a later one: it keeps the last hundred.
        """
        attempts = self.status.attempts
        taken = any(attempt.number == number and attempt.pod_uid for attempt in attempts)
        return taken or number < min((attempt.number for attempt in attempts), default=0)


class _StreamMeta(Struct, frozen=True):
    uid: UID


class _Stream(Struct, frozen=True):
    metadata: _StreamMeta


class _AccessStatus(Struct, frozen=True):
    allowed: bool = False


class _AccessReview(Struct, frozen=True):
    status: _AccessStatus


class _ListMeta(Struct, frozen=True):
    continue_: str = field(default="", name="continue")


class _JobList(Struct, frozen=True):
    items: tuple[EdgeJobView, ...]
    metadata: _ListMeta = _ListMeta()


class _BundleName(Struct, frozen=True):
    digest: str = ""


class _Source(Struct, frozen=True):
    bundle: _BundleName | None = None


class _AppSpec(Struct, frozen=True):
    source: _Source | None = None


class _AppMeta(Struct, frozen=True):
    namespace: str


class _App(Struct, frozen=True):
    metadata: _AppMeta
    spec: _AppSpec


class _AppList(Struct, frozen=True):
    items: tuple[_App, ...]
    metadata: _ListMeta = _ListMeta()


Listed = TypeVar("Listed", _JobList, _AppList)


class _NamespaceMeta(Struct, frozen=True):
    annotations: dict[str, str] = {}


class _Namespace(Struct, frozen=True):
    metadata: _NamespaceMeta


class _Authentication(Struct, frozen=True):
    data: dict[str, str] = {}


class Cluster:
    """The API server, asked with the gateway's own ServiceAccount. Names must be ones that Kubernetes allows."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def may_get(self, user: User, plural: str, namespace: str, name: str) -> bool:
        """Whether RBAC lets `user` get that object of ours, be there one or not. Raises `ClusterUnreachable`."""
        return await self._may(user, {"verb": "get", "resource": plural, "namespace": namespace, "name": name})

    async def may_use_apps(self, user: User, verb: str, namespace: str) -> bool:
        """Whether RBAC lets `user` do that with the namespace's EdgeApps. Raises `ClusterUnreachable`."""
        return await self._may(user, {"verb": verb, "resource": "edgeapps", "namespace": namespace})

    async def _may(self, user: User, attributes: dict[str, str]) -> bool:
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
            "resourceAttributes": {"group": "edgewise.dev", **attributes},
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            answer = await self._kube.ask("POST", _ACCESS_REVIEWS, body)
        except (Refused, Unreachable) as error:
            raise ClusterUnreachable(str(error)) from error
        return _decoded(answer, _AccessReview).status.allowed

    async def edge_job(self, namespace: str, job: str) -> EdgeJobView | None:
        """The EdgeJob of that name; None only if the API server says so. Raises `ClusterUnreachable`."""
        return await self._object("edgejobs", namespace, job, EdgeJobView)

    async def edge_stream(self, namespace: str, stream: str) -> str | None:
        """The UID of the EdgeStream of that name; None only if the API server says so. Raises `ClusterUnreachable`."""
        found = await self._object("edgestreams", namespace, stream, _Stream)
        return found.metadata.uid if found is not None else None

    async def _object(self, plural: str, namespace: str, name: str, kind: type[Answer]) -> Answer | None:
        path = f"/apis/edgewise.dev/v1alpha1/namespaces/{namespace}/{plural}/{name}"
        try:
            answer = await self._kube.ask("GET", path)
        except Refused as refusal:
            # A 404 that does not name the object says that the whole kind is missing, as during an upgrade of the CRDs.
            # Taking that for a deleted job would make agents discard their results.
            if refusal.status == HTTPStatus.NOT_FOUND and f'"{name}"' in refusal.message:
                return None
            raise ClusterUnreachable(str(refusal)) from refusal
        except Unreachable as error:
            raise ClusterUnreachable(str(error)) from error
        return _decoded(answer, kind)

    async def results_retention(self) -> dict[str, float | None]:
        """For each EdgeJob's UID how many seconds its results are kept; None: for ever. Raises `ClusterUnreachable`."""
        return {
            job.metadata.uid: job.results_seconds
            async for page in self._pages("edgejobs", _JobList)
            for job in page.items
        }

    async def bundles_named(self) -> set[tuple[str, str]]:
        """Namespace and SHA-256 of each bundle that an EdgeApp names. Raises `ClusterUnreachable`."""
        return {
            (app.metadata.namespace, source.bundle.digest.removeprefix("sha256:"))
            async for page in self._pages("edgeapps", _AppList)
            for app in page.items
            if (source := app.spec.source) is not None and source.bundle is not None
        }

    async def _pages(self, plural: str, kind: type[Listed]) -> AsyncIterator[Listed]:
        """All objects of a kind, page by page. Raises `ClusterUnreachable`."""
        query = {"limit": str(_PAGE)}
        while True:
            try:
                answer = await self._kube.ask("GET", f"/apis/edgewise.dev/v1alpha1/{plural}", query=query)
            except (Refused, Unreachable) as error:
                raise ClusterUnreachable(str(error)) from error
            page = _decoded(answer, kind)
            yield page
            if not page.metadata.continue_:
                return
            query = {"limit": str(_PAGE), "continue": page.metadata.continue_}

    async def namespace_annotations(self, namespace: str) -> dict[str, str]:
        """The annotations of a Namespace; none if it is not there or not to be read. Raises `ClusterUnreachable`."""
        try:
            answer = await self._kube.ask("GET", f"/api/v1/namespaces/{namespace}")
        except Refused as refusal:
            if refusal.passes:
                raise ClusterUnreachable(str(refusal)) from refusal
            logger.warning("the annotations of namespace %s are not used: %s", namespace, refusal)
            return {}
        except Unreachable as error:
            raise ClusterUnreachable(str(error)) from error
        return _decoded(answer, _Namespace).metadata.annotations

    async def client_ca(self) -> str:
        """The CAs, as PEM, that sign the certificates of the cluster's users. Raises `ClusterUnreachable`."""
        try:
            answer = await self._kube.ask("GET", _AUTHENTICATION)
        except (Refused, Unreachable) as error:
            raise ClusterUnreachable(str(error)) from error
        authorities = _decoded(answer, _Authentication).data.get("client-ca-file")
        if not authorities:
            raise ClusterUnreachable(f"{_AUTHENTICATION} has no client-ca-file: the cluster takes no certificates")
        return authorities


def _decoded(answer: bytes, kind: type[Answer]) -> Answer:
    try:
        return json.decode(answer, type=kind)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ClusterUnreachable(f"the API server's answer has another shape: {error}") from error
