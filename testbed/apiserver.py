"""An API server by itself, without devices: for tests that need nothing of a fleet, beside one that runs.

With etcd, controller manager and scheduler: namespaces end, what has lost its owner is collected, and pods are bound to
nodes that somebody plays. All of it ends with the process that started it, however that ends.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testbed import binaries
from testbed.components import Components, Place
from testbed.errors import Hopeless
from testbed.kubeapi import KubeApi
from testbed.waiting import wait_until

_END_SECONDS = 10


@contextmanager
def api_server(address: str = "127.0.0.1", api_port: int = 16443, etcd_port: int = 23589) -> Iterator[Path]:
    """Runs one; gives the administrator's kubeconfig.

    Raises:
        FleetError: it does not become ready within a minute, or its programs are not built.
    """
    folder = Path(tempfile.mkdtemp(prefix="edgewise-api-"))
    place = Place(address, api_port, etcd_port, folder / "pki", folder / "etcd", folder / "kubeconfig")
    components = Components(binaries.program("kube").parent, place)
    api = KubeApi(place.api, place.keys)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        servers = [_running(command, folder) for command in (components.etcd(), components.api_server())]
        started = [stack.enter_context(server) for server in servers]

        def ready() -> bool:
            if any(process.poll() is not None for process in started):
                raise Hopeless("etcd or the API server ended: " + " / ".join(map(_last_line, folder.glob("*.log"))))
            return api.ready()

        wait_until(ready, "the API server is ready", seconds=60)
        for command in (components.controller_manager(), components.scheduler()):
            stack.enter_context(_running(command, folder))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_until(lambda: api.get(account), "the controllers work", seconds=60)
        yield place.kubeconfig


def _last_line(log: Path) -> str:
    return "".join(log.read_text(errors="replace").splitlines()[-1:])


@contextmanager
def _running(command: Sequence[str | Path], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    program = Path(command[0]).name
    with (folder / f"{program}.log").open("ab") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *command], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
