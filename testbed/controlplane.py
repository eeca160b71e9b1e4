"""The control plane on the host: etcd, API server, controller manager and scheduler.

Their start and the wait until they answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import cgroups, paths, processes
from testbed.components import Components, Place
from testbed.errors import FleetError, Hopeless
from testbed.kubeapi import KubeApi
from testbed.network import HOST_ADDRESS
from testbed.progress import step
from testbed.waiting import wait_until

PLACE = Place(
    HOST_ADDRESS, api_port=6443, etcd_port=23579, keys=paths.KEYS, etcd=paths.ETCD, kubeconfig=paths.KUBECONFIG
)
API = PLACE.api
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
COMPONENTS = ("etcd", "kube-apiserver", *_CONTROLLERS)


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How fast controller manager and scheduler may call the API server.

    Attributes:
        qps: requests a second that each of their clients may send in the long run.
        burst: how many it may send at once after a pause.
        job_syncs: how many Jobs the controller manager works on at a time.
    """

    qps: int
    burst: int
    job_syncs: int


class ControlPlane:
    """The control plane whose programs are in `programs`."""

    def __init__(self, programs: Path, groups: cgroups.Cgroups) -> None:
        self._groups = groups
        self._components = Components(programs, PLACE)
        self.authority = self._components.authority
        self.api = KubeApi(API, PLACE.keys)

    def start(self) -> None:
        """Starts what does not run yet and waits until the API server is ready.

        Raises:
            FleetError: it does not become ready within a minute.
        """
        self._groups.create(cgroups.CONTROL)
        self._groups.set_cpu_weight(cgroups.CONTROL, cgroups.HOME_WEIGHT)
        with step("etcd and API server"):
            self._start("etcd", self._components.etcd())
            self._start("kube-apiserver", self._components.api_server())
            wait_until(self._api_ready, "the API server is ready", seconds=60)
        with step("controller manager and scheduler"):
            self._start_controllers(None)
            service_account = "/api/v1/namespaces/default/serviceaccounts/default"
            wait_until(lambda: self.api.get(service_account), "the controllers work", seconds=60)

    def restart_controllers(self, limits: ClientLimits | None) -> None:
        """Starts controller manager and scheduler anew with these limits, None for Kubernetes' own.

        Returns before they work: their caches fill first.
        """
        for name in _CONTROLLERS:
            if process := processes.find(name):
                process.end(10)
        self._start_controllers(limits)

    def _start_controllers(self, limits: ClientLimits | None) -> None:
        manager, scheduler = self._components.controller_manager(), self._components.scheduler()
        if limits is not None:
            client = [f"--kube-api-qps={limits.qps}", f"--kube-api-burst={limits.burst}"]
            manager += [*client, f"--concurrent-job-syncs={limits.job_syncs}"]
            scheduler += client
        for name, command in zip(_CONTROLLERS, (manager, scheduler), strict=True):
            self._start(name, command)

    def _api_ready(self) -> bool:
        for component in ("etcd", "kube-apiserver"):
            process = processes.find(component)
            if process and not process.alive:
                raise Hopeless(f"{component} ended: see {paths.LOGS / component}.log")
        return self.api.ready()

    def _start(self, name: str, command: Sequence[str | Path]) -> None:
        program, *flags = command
        groups = self._groups.membership_files(cgroups.CONTROL)
        processes.start(name, [program, *flags], log=paths.LOGS / f"{name}.log", groups=groups)


def require_running() -> None:
    """Raises:
    FleetError: the API server does not run.
    """
    if not processes.running("kube-apiserver"):
        raise FleetError("the fleet is down: start it with `make up` or `fleet up`")
