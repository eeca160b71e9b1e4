"""Reaches Edgewise's own servers from outside the cluster: a port-forward, and TLS checked against their CA."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile

import urllib3

from testbed import paths
from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.install import NAMESPACE

_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@contextmanager
def forwarded(fleet: Fleet, target: str, port: int) -> Iterator[urllib3.HTTPSConnectionPool]:
    """HTTPS to a port of a pod or Service in edgewise-system, such as `service/edgewise-gateway`.

    Raises `FleetError` when no port-forward can be made.
    """
    ca = fleet.kubectl(
        "get", "configmap", "edgewise-ca", "--namespace", NAMESPACE, "--output=jsonpath={.data.ca\\.crt}"
    )
    command = [str(paths.BIN / "kubectl"), "--kubeconfig", str(paths.KUBECONFIG), "--namespace", NAMESPACE]
    forward = [*command, "port-forward", target, f":{port}"]
    with (
        NamedTemporaryFile("w", suffix=".crt") as trusted,
        subprocess.Popen(forward, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        trusted.write(ca)
        trusted.flush()
        try:
            local = _port(process)
            with urllib3.HTTPSConnectionPool("localhost", local, ca_certs=trusted.name, timeout=30, retries=3) as pool:
                yield pool
        finally:
            process.terminate()


def _port(process: "subprocess.Popen[str]") -> int:
    said = []
    for line in process.stdout or ():
        said.append(line.strip())
        if found := _FORWARDED.search(line):
            return int(found[1])
    raise FleetError(f"no port-forward: {' '.join(said)}")
