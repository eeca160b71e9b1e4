"""The real operator as a process of its own, behind its proxy, started anew when it ends, as kubelet would."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec import json

from tests.control.crash.proxy import Proxy, Treatment

BEAT_SECONDS: Final = 2.0
RESYNC_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 3.0

CLOSING_SECONDS: Final = 20.0

LAUNCH: Final = "import sys, edgewise.control.main as m; print('loaded', flush=True); sys.stdin.readline(); m.main()"
"""The operator waits for a line when all of it is loaded: so the next one can load while this one works."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an operator runs and which pod it is taken for."""

    namespace: str
    pod: str
    edge_label: str
    folder: Path


class Operator:
    """One process, from its launch to its end. `loading_seconds` is how long its code took to load."""

    def __init__(self, identity: Identity, treatment: Treatment) -> None:
        self.identity = identity
        self.intake_port, self.http_port = _free_ports(2)
        self.loading_seconds = 0.0
        self.released_at = 0.0
        self._proxy = Proxy(treatment)
        self._process: asyncio.subprocess.Process | None = None

    async def launch(self) -> None:
        """Start the process, up to where its code is loaded."""
        launched_at = time.monotonic()
        await self._proxy.start()
        kubeconfig = self.identity.folder / f"{self.identity.pod}-{self.intake_port}.kubeconfig"
        kubeconfig.write_bytes(json.encode(_kubeconfig(self._proxy.url)))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", LAUNCH, "run"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment(kubeconfig),
            )
        if self._process.stdout is None or not await self._process.stdout.readline():
            raise RuntimeError(f"the operator did not load: see {self.log}")
        self.loading_seconds = time.monotonic() - launched_at

    def release(self) -> None:
        """Let the loaded operator begin."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the operator has not been launched")
        self._process.stdin.write(b"\n")
        self._process.stdin.close()  # when it starts itself anew it does not wait
        self.released_at = time.monotonic()

    async def ended(self) -> int:
        """Wait for the end of the process; its exit code. No request of it is under way any more then."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        async with asyncio.timeout(CLOSING_SECONDS):
            await self._proxy.close()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def end(self) -> None:
        """End it, whatever it does."""
        self.send(signal.SIGKILL)
        await self.ended()

    @property
    def log(self) -> Path:
        """What all operators of this pod have said."""
        return self.identity.folder / f"{self.identity.pod}.log"

    def _environment(self, kubeconfig: Path) -> dict[str, str]:
        foreign = ("EDGEWISE_", "KUBERNETES_")
        settings = {
            "NAMESPACE": self.identity.namespace,
            "POD_NAME": self.identity.pod,
            "KUBECONFIG": str(kubeconfig),
            "EDGE_LABEL": self.identity.edge_label,
            "BEAT_SECONDS": str(BEAT_SECONDS),
            "RESYNC_SECONDS": str(RESYNC_SECONDS),
            "PATIENCE_SECONDS": str(PATIENCE_SECONDS),
            "INTAKE_PORT": str(self.intake_port),
            "HTTP_PORT": str(self.http_port),
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {f"EDGEWISE_{name}": value for name, value in settings.items()}
        return {**inherited, **own, "KUBECONFIG": str(kubeconfig)}


@dataclass(slots=True)
class Container:
    """One operator pod's container: an operator process, and another whenever that ends.

    `on_start` is told of each process before it begins; `codes` are the exit codes of those that ended.
    """

    identity: Identity
    treatment: Treatment
    on_start: Callable[[Operator], None]
    codes: list[int] = field(default_factory=list)
    current: Operator | None = None
    state: str = "not started"
    """what it is about, in words"""
    _next: "asyncio.Task[Operator] | None" = None

    async def run(self) -> None:
        """Run until cancelled."""
        self._next = asyncio.create_task(self._launched())
        try:
            while True:
                self.state = "loading"
                self.current = await self._next
                self._next = asyncio.create_task(self._launched())
                self.on_start(self.current)
                self.current.release()
                self.state = "running"
                self.codes.append(await self.current.ended())
        finally:
            await self._end()

    async def _launched(self) -> Operator:
        operator = Operator(self.identity, self.treatment)
        try:
            await operator.launch()
        except asyncio.CancelledError:
            await operator.end()
            raise
        return operator

    async def _end(self) -> None:
        if self.current is not None:
            await self.current.end()
        if self._next is not None:
            self._next.cancel()
            [loaded] = await asyncio.gather(self._next, return_exceptions=True)
            if isinstance(loaded, Operator):
                await loaded.end()


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
