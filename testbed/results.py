"""Fetches results from the gateway as a user outside the cluster does: by port-forward, with a token, over TLS."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import urllib3

from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.forward import forwarded

READER: Final = "results-reader"


class Results:
    """The gateway, asked with one user's token."""

    def __init__(self, pool: urllib3.HTTPSConnectionPool, token: str) -> None:
        self._pool = pool
        self._headers = {"Authorization": f"Bearer {token}"}

    def request(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        """The gateway's answer, whatever its status."""
        return self._pool.request(method, path, body=body, headers={**self._headers, **headers}, redirect=False)

    def listing(self, namespace: str, job: str) -> dict[str, Any]:
        """The job's files, as the gateway lists them. Raises `FleetError` for any answer but 200."""
        listing: dict[str, Any] = json.loads(self._get(f"/v1/namespaces/{namespace}/jobs/{job}/files"))
        return listing

    def file(self, namespace: str, job: str, name: str) -> bytes:
        """One file's content. Raises `FleetError` for any answer but 200."""
        return self._get(f"/v1/namespaces/{namespace}/jobs/{job}/files/{name}")

    def sha256(self, namespace: str, job: str, name: str) -> str:
        """The SHA-256 of one file's content as it is served, however large. Raises `FleetError` for any but 200."""
        path = f"/v1/namespaces/{namespace}/jobs/{job}/files/{name}"
        answer = self._pool.request("GET", path, headers=self._headers, redirect=False, preload_content=False)
        if answer.status != 200:
            raise FleetError(f"the gateway answers {answer.status} to {path}")
        digest = hashlib.sha256()
        for block in answer.stream(2**20):
            digest.update(block)
        answer.release_conn()
        return digest.hexdigest()

    def _get(self, path: str) -> bytes:
        answer = self.request(path)
        if answer.status != 200:
            raise FleetError(f"the gateway answers {answer.status} to {path}: {answer.data[:300].decode()}")
        return answer.data


@contextmanager
def results(fleet: Fleet, namespace: str, role: str = "view") -> Iterator[Results]:
    """The gateway, with the token of a ServiceAccount that has the ClusterRole `role` in `namespace`."""
    account = f"{namespace}:{READER}"
    _apply(fleet, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER}}, namespace)
    _apply(
        fleet,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{READER}-{role}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": namespace}],
        },
        namespace,
    )
    token = fleet.kubectl("create", "token", READER, "--namespace", namespace).strip()
    if not token:
        raise FleetError(f"no token for {account}")
    with forwarded(fleet, "service/edgewise-gateway", 443) as pool:
        yield Results(pool, token)


def _apply(fleet: Fleet, body: dict[str, Any], namespace: str) -> None:
    fleet.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(body))
