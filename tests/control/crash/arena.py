"""Where the real operator is tried: a namespace of its own, devices that are played, an observer, and operators."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgewise.kube.client import KubeClient, Refused

from tests.control.crash.devices import READY, Device, Devices
from tests.control.crash.door import Door
from tests.control.crash.observer import Observer
from tests.control.crash.operators import Container, Identity, Operator
from tests.control.crash.proxy import Treatment

PODS: Final = ("operator-1", "operator-2")
TAINT: Final = "edgewise.dev/played"
"""Keeps pods that are none of the test's off the played devices."""

TOLD_LINES: Final = 60
SPEEDS: Final = (12_000.0, 6_000.0, 3_000.0)
GROUP: Final = "/apis/edgewise.dev/v1alpha1"


@dataclass(slots=True)
class Arena:
    """The place. `starts` are the operators that have begun, in their order."""

    client: KubeClient
    kubeconfig: Path
    namespace: str
    folder: Path
    observer: Observer
    devices: Devices
    starts: list[Operator] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    players: list["asyncio.Task[None]"] = field(default_factory=list)
    """what plays devices, observer and containers: none may end by itself"""

    @asynccontextmanager
    async def operator(self, pod: str, treatment: Treatment) -> AsyncIterator[Container]:
        """An operator in that pod, for as long as the block lasts."""
        label = f"{TAINT}={self.namespace}"
        container = Container(
            Identity(self.namespace, pod, label, self.folder, self.kubeconfig), treatment, self.starts.append
        )
        self.containers[pod] = container
        running = asyncio.create_task(container.run(), name=f"container of {pod}")
        self.players.append(running)
        try:
            yield container
        except BaseException:
            self._tell()
            raise
        finally:
            self.players.remove(running)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            del self.containers[pod]

    async def start(self, name: str, app: str, seconds: float, *codes: int, **spec: Any) -> None:
        """Create an EdgeJob whose container runs for `seconds` and ends with those codes, attempt by attempt."""
        whole = {
            "appRef": {"name": app},
            "args": [str(seconds), *(str(code) for code in codes)],
            "retry": {"backoffSeconds": 0},
            "disconnect": {"replaceAfterSeconds": 10},
        }
        body = {"apiVersion": "edgewise.dev/v1alpha1", "kind": "EdgeJob"}
        named = body | {"metadata": {"name": name}, "spec": whole | spec}
        await self.client.ask("POST", f"{GROUP}/namespaces/{self.namespace}/edgejobs", named)

    async def delete(self, name: str) -> None:
        """Delete an EdgeJob."""
        await self.client.ask("DELETE", f"{GROUP}/namespaces/{self.namespace}/edgejobs/{name}")

    def check(self) -> None:
        """What must hold at every moment has held."""
        for player in self.players:
            assert not player.done(), player.exception()
        assert not self.observer.broken, self.observer.broken
        assert not self.devices.overlaps, self.devices.overlaps

    def _tell(self) -> None:
        """Print what a failed test wants to know."""
        print(f"pods that live: {self.observer.living()}")
        for player in self.players:
            if player.done():
                print(f"{player.get_name()} has ended: {player.exception()!r}")
        for pod, container in self.containers.items():
            print(f"{pod}: {container.state}, exit codes so far {container.codes}")
        for name, job in self.observer.jobs.items():
            waits = job.get("status", {}).get("placement", {}).get("message", "")
            print(f"{name}: {self.observer.phase(name)} {self.observer.outcomes(name)} {waits}")
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-TOLD_LINES:]))


@asynccontextmanager
async def arena(client: KubeClient, kubeconfig: Path, namespace: str, folder: Path) -> AsyncIterator[Arena]:
    """An arena in `namespace`, without operators yet. Leaves nothing behind."""
    devices = {f"{namespace}-{number}": Device(f"{namespace}-{number}", speed) for number, speed in enumerate(SPEEDS)}
    try:
        await _furnish(client, namespace, list(devices))
        containers: dict[str, Container] = {}

        def port_of(pod: str) -> int | None:
            current = containers[pod].current if pod in containers else None
            return current.intake_port if current else None

        door = Door(client, namespace, port_of)
        tokens = {name: await door.token("edgewise-agent", f"agent-{name}") for name in devices}
        tokens["gateway"] = await door.token("edgewise-gateway")
        observer = Observer(lambda name: played.reachable(name))  # noqa: PLW0108 - `played` is made of the observer
        played = Devices(client, namespace, door, observer, tokens, devices)
        place = Arena(client, kubeconfig, namespace, folder, observer, played, containers=containers)
        pods, jobs = observer.reflectors(client, namespace)
        place.players += [asyncio.create_task(part) for part in (pods.run(), jobs.run(), played.run())]
        try:
            yield place
        finally:
            for player in place.players:
                player.cancel()
            await asyncio.gather(*place.players, return_exceptions=True)
            await door.close()
    finally:
        await _clear(client, namespace, list(devices))


async def _furnish(client: KubeClient, namespace: str, names: list[str]) -> None:
    inside = f"/api/v1/namespaces/{namespace}"
    for account in ("edgewise-agent", "edgewise-gateway", "default"):
        await _make(client, f"{inside}/serviceaccounts", {"metadata": {"name": account}})
    for pod in PODS:
        await _make(client, f"{inside}/pods", _pod(pod, "default", schedulerName="nobody"))
    for name in names:
        await _make(client, "/api/v1/nodes", _node(name, namespace))
        await client.ask("PATCH", f"/api/v1/nodes/{name}/status", READY, content_type="application/merge-patch+json")
        lease = {"metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 4}}
        await _make(client, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)
        await _make(client, f"{inside}/pods", _pod(f"agent-{name}", "edgewise-agent", nodeName=name))
    for app, outputs in (("plain", None), ("files", {})):
        spec: dict[str, Any] = {"image": "none:1", "tolerations": [{"key": TAINT, "operator": "Exists"}]}
        spec |= {"terminationGracePeriodSeconds": 1} | ({} if outputs is None else {"outputs": outputs})
        body = {"apiVersion": "edgewise.dev/v1alpha1", "kind": "EdgeApp", "metadata": {"name": app}, "spec": spec}
        await _make(client, f"{GROUP}/namespaces/{namespace}/edgeapps", body)


async def _clear(client: KubeClient, namespace: str, names: list[str]) -> None:
    inside = f"/api/v1/namespaces/{namespace}"
    await _remove(client, f"{GROUP}/namespaces/{namespace}/edgejobs", {})
    await _remove(client, f"{inside}/pods", {"gracePeriodSeconds": 0})
    for name in names:
        await _remove(client, f"/api/v1/nodes/{name}", {})
        await _remove(client, f"{GROUP}/edgenodes/{name}", {})
        await _remove(client, f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}", {})


async def _make(client: KubeClient, path: str, body: dict[str, Any]) -> None:
    try:
        await client.ask("POST", path, body)
    except Refused as error:
        if error.reason != "AlreadyExists":
            raise


async def _remove(client: KubeClient, path: str, options: dict[str, Any]) -> None:
    try:
        await client.ask("DELETE", path, options)
    except Refused as error:
        if error.reason != "NotFound":
            raise


def _pod(name: str, account: str, **spec: str) -> dict[str, Any]:
    whole = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": "none:1"}],
    }
    return {"metadata": {"name": name}, "spec": whole | spec}


def _node(name: str, namespace: str) -> dict[str, Any]:
    labels = {TAINT: namespace, "kubernetes.io/hostname": name}
    taint = {"key": TAINT, "value": namespace, "effect": "NoSchedule"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": [taint]}}
