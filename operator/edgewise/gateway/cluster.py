"""What the gateway asks the API server: may this user read an EdgeJob, how is it, and who signs users' certificates.

Owns what the gateway reads of an EdgeJob. Remembers nothing, and writes nothing but the review itself.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Final, TypeVar

from edgewise_agent.wire import UID
from msgspec import DecodeError, Struct, field, json

from edgewise.kube.client import KubeClient, Refused, Unreachable
from edgewise.kube.tokens import User

Answer = TypeVar("Answer")

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


class _JobMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    namespace: str
    uid: UID
    creation_timestamp: datetime


class _JobStatus(Struct, frozen=True, kw_only=True):
    attempts: tuple[JobAttempt, ...] = ()


class EdgeJobView(Struct, frozen=True, kw_only=True):
    """An EdgeJob, as far as the gateway reads it."""

    metadata: _JobMeta
    status: _JobStatus = _JobStatus()

    def attempt_of(self, pod_uid: str) -> JobAttempt | None:
        """The attempt that ran in that pod, once the operator has recorded it."""
        return next((attempt for attempt in self.status.attempts if attempt.pod_uid == pod_uid), None)


class _AccessStatus(Struct, frozen=True):
    allowed: bool = False


class _AccessReview(Struct, frozen=True):
    status: _AccessStatus


class _Authentication(Struct, frozen=True):
    data: dict[str, str] = {}


class Cluster:
    """The API server, asked with the gateway's own ServiceAccount. Names must be ones that Kubernetes allows."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def may_get_job(self, user: User, namespace: str, job: str) -> bool:
        """Whether RBAC lets `user` get that EdgeJob, be there one or not. Raises `ClusterUnreachable`."""
        attributes = {
            "verb": "get",
            "group": "edgewise.dev",
            "resource": "edgejobs",
            "namespace": namespace,
            "name": job,
        }
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
            "resourceAttributes": attributes,
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            answer = await self._kube.ask("POST", _ACCESS_REVIEWS, body)
        except (Refused, Unreachable) as error:
            raise ClusterUnreachable(str(error)) from error
        return _decoded(answer, _AccessReview).status.allowed

    async def edge_job(self, namespace: str, job: str) -> EdgeJobView | None:
        """The EdgeJob of that name; None only if the API server says so. Raises `ClusterUnreachable`."""
        path = f"/apis/edgewise.dev/v1alpha1/namespaces/{namespace}/edgejobs/{job}"
        try:
            answer = await self._kube.ask("GET", path)
        except Refused as refusal:
            # A 404 that does not name the job says that the whole kind is missing, as during an upgrade of the CRDs.
            # Taking that for a deleted job would make agents discard their results.
            if refusal.status == HTTPStatus.NOT_FOUND and f'"{job}"' in refusal.message:
                return None
            raise ClusterUnreachable(str(refusal)) from refusal
        except Unreachable as error:
            raise ClusterUnreachable(str(error)) from error
        return _decoded(answer, EdgeJobView)

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
