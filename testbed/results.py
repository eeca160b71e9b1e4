"""Fetches results from the gateway as a user outside the cluster does: by port-forward, with a token, over TLS."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import Any, Final

import urllib3

from testbed import paths
from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.install import NAMESPACE

READER: Final = "results-reader"
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Results:
    """The gateway, asked with one user's token."""

    def __init__(self, pool: urllib3.HTTPSConnectionPool, token: str) -> None:
        self._pool = pool
        self._headers = {"Authorization": f"Bearer {token}"}

    def request(self, path: str, *, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
        """The gateway's answer, whatever its status."""
        return self._pool.request(method, path, headers={**self._headers, **headers}, redirect=False)

    def listing(self, namespace: str, job: str) -> dict[str, Any]:
        """The job's files, as the gateway lists them. Raises `FleetError` for any answer but 200."""
        listing: dict[str, Any] = json.loads(self._get(f"/v1/namespaces/{namespace}/jobs/{job}/files"))
        return listing

    def file(self, namespace: str, job: str, name: str) -> bytes:
        """One file's content. Raises `FleetError` for any answer but 200."""
        return self._get(f"/v1/namespaces/{namespace}/jobs/{job}/files/{name}")

    def _get(self, path: str) -> bytes:
        answer = self.request(path)
        if answer.status != 200:
            raise FleetError(f"the gateway answers {answer.status} to {path}: {answer.data[:300].decode()}")
        return answer.data


@contextmanager
def results(fleet: Fleet, namespace: str) -> Iterator[Results]:
    """The gateway, with the token of a ServiceAccount that may view `namespace`."""
    account = f"{namespace}:{READER}"
    _apply(fleet, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER}}, namespace)
    _apply(
        fleet,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": READER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": namespace}],
        },
        namespace,
    )
    token = fleet.kubectl("create", "token", READER, "--namespace", namespace).strip()
    if not token:
        raise FleetError(f"no token for {account}")
    with gateway(fleet) as pool:
        yield Results(pool, token)


@contextmanager
def gateway(fleet: Fleet) -> Iterator[urllib3.HTTPSConnectionPool]:
    """A port-forward to the gateway, whose certificate is checked against the ConfigMap edgewise-ca."""
    ca = fleet.kubectl(
        "get", "configmap", "edgewise-ca", "--namespace", NAMESPACE, "--output=jsonpath={.data.ca\\.crt}"
    )
    command = [str(paths.BIN / "kubectl"), "--kubeconfig", str(paths.KUBECONFIG), "--namespace", NAMESPACE]
    forward = [*command, "port-forward", "service/edgewise-gateway", ":443"]
    with (
        NamedTemporaryFile("w", suffix=".crt") as trusted,
        subprocess.Popen(forward, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        trusted.write(ca)
        trusted.flush()
        try:
            port = _port(process)
            with urllib3.HTTPSConnectionPool("localhost", port, ca_certs=trusted.name, timeout=30, retries=3) as pool:
                yield pool
        finally:
            process.terminate()


def _port(process: "subprocess.Popen[str]") -> int:
    said = []
    for line in process.stdout or ():
        said.append(line.strip())
        if found := _FORWARDED.search(line):
            return int(found[1])
    raise FleetError(f"no port-forward to the gateway: {' '.join(said)}")


def _apply(fleet: Fleet, body: dict[str, Any], namespace: str) -> None:
    fleet.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(body))
