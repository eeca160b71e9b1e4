"""The commands of etcd, API server, controller manager and scheduler: what each is told, wherever it runs.

etcd listens on loopback only, takes the cluster's certificates only, and does not fsync: no state here need outlive the
machine.
"""

from dataclasses import dataclass
from pathlib import Path

from testbed.certificates import Authority, Pair, key_pair, kubeconfig
from testbed.network import API_SERVICE_ADDRESS, SERVICE_RANGE

ISSUER = "https://kubernetes.default.svc.cluster.local"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a control plane listens and keeps its things.

    Attributes:
        address: what API server, controller manager and scheduler listen on.
        etcd_port: for the API server, on loopback; the next one is for etcd itself.
        keys: the folder of its certificates.
        etcd: the folder of its data.
        kubeconfig: the administrator's.
    """

    address: str
    api_port: int
    etcd_port: int
    keys: Path
    etcd: Path
    kubeconfig: Path

    @property
    def api(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.api_port}"

    @property
    def etcd_client(self) -> str:
        """The URL that etcd's clients use."""
        return f"https://127.0.0.1:{self.etcd_port}"


class Components:
    """The control plane's commands at `place`, by the programs in `programs`; its authority and kubeconfig are made."""

    def __init__(self, programs: Path, place: Place) -> None:
        self._programs = programs
        self._place = place
        self.authority = Authority(place.keys, "ca")
        admin = self.authority.issue("admin", "edgewise-admin", "system:masters")
        place.kubeconfig.write_text(kubeconfig(place.api, self.authority, admin))
        place.kubeconfig.chmod(0o600)

    def etcd(self) -> list[str | Path]:
        """etcd, the only member of its cluster."""
        client, peer = self._place.etcd_client, f"https://127.0.0.1:{self._place.etcd_port + 1}"
        serving = self.authority.issue("etcd", "etcd", hosts=("127.0.0.1",))
        return [
            "etcd",
            f"--data-dir={self._place.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--cert-file={serving.certificate}",
            f"--key-file={serving.key}",
            "--client-cert-auth=true",
            f"--trusted-ca-file={self.authority.pair.certificate}",
            f"--peer-cert-file={serving.certificate}",
            f"--peer-key-file={serving.key}",
            "--peer-client-cert-auth=true",
            f"--peer-trusted-ca-file={self.authority.pair.certificate}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        ]

    def api_server(self) -> list[str | Path]:
        """The API server."""
        ca = self.authority
        serving = ca.issue(
            "kube-apiserver", "kube-apiserver", hosts=(self._place.address, API_SERVICE_ADDRESS, *_NAMES)
        )
        own_client = ca.issue("kube-apiserver-client", "kube-apiserver-client", "system:masters")
        front = Authority(self._place.keys, "front-proxy-ca")
        front_client = front.issue("front-proxy-client", "front-proxy-client")
        accounts = key_pair(self._place.keys, "service-accounts")
        return [
            self._programs / "kube-apiserver",
            f"--bind-address={self._place.address}",
            f"--secure-port={self._place.api_port}",
            f"--advertise-address={self._place.address}",
            f"--etcd-servers={self._place.etcd_client}",
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

    def controller_manager(self) -> list[str | Path]:
        """The controller manager."""
        ca = self.authority.pair
        return [
            self._programs / "kube-controller-manager",
            *self._client("kube-controller-manager"),
            f"--cluster-signing-cert-file={ca.certificate}",
            f"--cluster-signing-key-file={ca.key}",
            f"--root-ca-file={ca.certificate}",
            f"--service-account-private-key-file={key_pair(self._place.keys, 'service-accounts').key}",
            "--use-service-account-credentials=true",
            "--controllers=*,bootstrapsigner,tokencleaner",
        ]

    def scheduler(self) -> list[str | Path]:
        """The scheduler."""
        return [self._programs / "kube-scheduler", *self._client("kube-scheduler")]

    def _client(self, name: str) -> list[str]:
        user = f"system:{name}"
        pair = self.authority.issue(name, user, hosts=(self._place.address,))
        config = self._place.keys / f"{name}.kubeconfig"
        config.write_text(kubeconfig(self._place.api, self.authority, pair))
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--bind-address={self._place.address}",
            *_serving(pair),
            "--leader-elect=false",
        ]


def _serving(pair: Pair) -> list[str]:
    return [f"--tls-cert-file={pair.certificate}", f"--tls-private-key-file={pair.key}"]
