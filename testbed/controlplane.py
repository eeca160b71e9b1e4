"""The control plane on the host: etcd, API server, controller manager and scheduler.

Their flags, their start and the wait until they answer. etcd listens on
loopback only, takes the cluster's certificates only, and does not fsync: the
fleet's state need not outlive the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import cgroups, paths, processes
from testbed.certificates import Authority, Pair, key_pair, kubeconfig
from testbed.errors import FleetError, Hopeless
from testbed.kubeapi import KubeApi
from testbed.network import API_SERVICE_ADDRESS, HOST_ADDRESS, SERVICE_RANGE
from testbed.progress import step
from testbed.waiting import wait_until

API = f"https://{HOST_ADDRESS}:6443"
ISSUER = "https://kubernetes.default.svc.cluster.local"
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
COMPONENTS = ("etcd", "kube-apiserver", *_CONTROLLERS)
_ETCD = "https://127.0.0.1:23579"
_ETCD_PEER = "https://127.0.0.1:23580"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


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
        self._programs = programs
        self._groups = groups
        self.authority = Authority(paths.KEYS, "ca")
        self.api = self._prepare()

    def _prepare(self) -> KubeApi:
        admin = self.authority.issue("admin", "edgewise-admin", "system:masters")
        paths.KUBECONFIG.write_text(kubeconfig(API, self.authority, admin))
        paths.KUBECONFIG.chmod(0o600)
        return KubeApi(API)

    def start(self) -> None:
        """Starts what does not run yet and waits until the API server is ready.

        Raises:
            FleetError: it does not become ready within a minute.
        """
        self._groups.create(cgroups.CONTROL)
        self._groups.set_cpu_weight(cgroups.CONTROL, cgroups.HOME_WEIGHT)
        with step("etcd and API server"):
            self._start("etcd", self._etcd())
            self._start("kube-apiserver", self._api_server())
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
        manager, scheduler = self._controller_manager(), self._scheduler()
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

    def _etcd(self) -> list[str | Path]:
        serving = self.authority.issue("etcd", "etcd", hosts=("127.0.0.1",))
        return [
            "etcd",
            f"--data-dir={paths.ETCD}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--cert-file={serving.certificate}",
            f"--key-file={serving.key}",
            "--client-cert-auth=true",
            f"--trusted-ca-file={self.authority.pair.certificate}",
            f"--peer-cert-file={serving.certificate}",
            f"--peer-key-file={serving.key}",
            "--peer-client-cert-auth=true",
            f"--peer-trusted-ca-file={self.authority.pair.certificate}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=default={_ETCD_PEER}",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        ]

    def _api_server(self) -> list[str | Path]:
        ca = self.authority
        serving = ca.issue("kube-apiserver", "kube-apiserver", hosts=(HOST_ADDRESS, API_SERVICE_ADDRESS, *_NAMES))
        own_client = ca.issue("kube-apiserver-client", "kube-apiserver-client", "system:masters")
        front = Authority(paths.KEYS, "front-proxy-ca")
        front_client = front.issue("front-proxy-client", "front-proxy-client")
        accounts = key_pair(paths.KEYS, "service-accounts")
        return [
            self._programs / "kube-apiserver",
            f"--bind-address={HOST_ADDRESS}",
            f"--advertise-address={HOST_ADDRESS}",
            f"--etcd-servers={_ETCD}",
            f"--etcd-cafile={ca.pair.certificate}",
            f"--etcd-certfile={own_client.certificate}",
            f"--etcd-keyfile={own_client.key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--feature-gates=WatchList=false",  # etcd 3.4 can't serve it; a watch from version 0 would be refused
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-aggregator-routing=true",
            f"--client-ca-file={ca.pair.certificate}",
            *_serving(serving),
            f"--kubelet-certificate-authority={ca.pair.certificate}",
            f"--kubelet-client-certificate={own_client.certificate}",
            f"--kubelet-client-key={own_client.key}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={accounts.certificate}",
            f"--service-account-signing-key-file={accounts.key}",
            f"--requestheader-client-ca-file={front.pair.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={front_client.certificate}",
            f"--proxy-client-key-file={front_client.key}",
        ]

    def _controller_manager(self) -> list[str | Path]:
        ca = self.authority.pair
        return [
            self._programs / "kube-controller-manager",
            *self._client("kube-controller-manager"),
            f"--cluster-signing-cert-file={ca.certificate}",
            f"--cluster-signing-key-file={ca.key}",
            f"--root-ca-file={ca.certificate}",
            f"--service-account-private-key-file={key_pair(paths.KEYS, 'service-accounts').key}",
            "--use-service-account-credentials=true",
            "--controllers=*,bootstrapsigner,tokencleaner",
        ]

    def _scheduler(self) -> list[str | Path]:
        return [self._programs / "kube-scheduler", *self._client("kube-scheduler")]

    def _client(self, name: str) -> list[str]:
        user = f"system:{name}"
        pair = self.authority.issue(name, user, hosts=(HOST_ADDRESS,))
        config = paths.KEYS / f"{name}.kubeconfig"
        config.write_text(kubeconfig(API, self.authority, pair))
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--bind-address={HOST_ADDRESS}",
            *_serving(pair),
            "--leader-elect=false",
        ]


def require_running() -> None:
    """Raises:
    FleetError: the API server does not run.
    """
    if not processes.running("kube-apiserver"):
        raise FleetError("the fleet is down: start it with `make up` or `fleet up`")


def _serving(pair: Pair) -> list[str]:
    return [f"--tls-cert-file={pair.certificate}", f"--tls-private-key-file={pair.key}"]
