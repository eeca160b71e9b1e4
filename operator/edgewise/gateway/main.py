"""Starts and stops the gateway. Owns the order in which its parts come up, and nothing of what they do."""

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from edgewise.gateway.announce import Announcer
from edgewise.gateway.app import probes_app, public_app
from edgewise.gateway.attempts import Attempts
from edgewise.gateway.bundle_store import BundleStore
from edgewise.gateway.bundles import Bundles
from edgewise.gateway.client_ca import follow_client_ca
from edgewise.gateway.cluster import Cluster
from edgewise.gateway.content import Content
from edgewise.gateway.files import Files
from edgewise.gateway.identity import Identity
from edgewise.gateway.metrics import Metrics
from edgewise.gateway.quota import Quotas
from edgewise.gateway.readers import Readers
from edgewise.gateway.records import StoreBusy
from edgewise.gateway.retention import keep_to_retention
from edgewise.gateway.settings import SettingError, Settings
from edgewise.gateway.store import Store
from edgewise.gateway.streams import Streams
from edgewise.gateway.sweep import sweep
from edgewise.gateway.tls import CHECK_SECONDS, Certificate
from edgewise.gateway.uploads import Uploads
from edgewise.gateway.volume import Volume
from edgewise.kube.client import KubeClient
from edgewise.kube.tokens import Tokens

logger = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
STOP_SECONDS = 10.0
"""How long requests under way may go on after the gateway was told to stop."""
READ_BUFFER_BYTES = 64 * 1024
MAX_HEADER_BYTES = 32 * 1024
"""Tokens of some identity providers are longer than what aiohttp allows a header."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the gateway listens."""

    https: int
    http: int


class Gateway:
    """The parts of one gateway, from its settings."""

    def __init__(self, settings: Settings, certificate_check_seconds: float = CHECK_SECONDS) -> None:
        self._settings = settings
        self._check_seconds = certificate_check_seconds
        self._metrics = Metrics()
        self._waiting_for: str | None = "starting"
        self._volume: Volume | None = None

    async def run(self, started: Callable[[Ports], None]) -> None:
        """Serves until it is cancelled. `started` is told the ports once requests are answered."""
        settings = self._settings
        probes = probes_app(self._metrics, lambda: self._waiting_for, lambda: self._volume)
        async with AsyncExitStack() as stack:
            http_port = await stack.enter_async_context(_listening(probes, settings.http_port))
            volume = await self._open_volume()
            stack.callback(volume.close)
            kube = await KubeClient.connect(settings.kubeconfig)
            stack.push_async_callback(kube.close)
            cluster = Cluster(kube)
            agents = f"system:serviceaccount:{settings.namespace}:{settings.agent_service_account}"
            identity = Identity(Tokens(kube), cluster, agents)
            announcer = Announcer(volume, settings.operator_url, settings.ca_file, settings.token_file, self._metrics)
            quotas = Quotas(volume, cluster, settings.namespace_quota)
            uploads = Uploads(volume, cluster, identity, quotas, self._metrics, announcer.announce)
            readers, content = Readers(volume, cluster, identity), Content(volume, self._metrics)
            files = Files(volume, readers, content, announcer)
            attempts = Attempts(volume, readers, content)
            streams = Streams(volume, readers, content)
            stored = BundleStore(settings.data_dir)
            bundles = Bundles(volume, stored, cluster, identity, quotas, content, settings.bundle_limit)
            certificate = Certificate(settings.tls_dir)
            loaded = asyncio.Event()
            async with asyncio.TaskGroup() as background:
                background.create_task(announcer.run())
                background.create_task(sweep(volume, cluster, settings.attempts_kept))
                background.create_task(keep_to_retention(volume, cluster, settings.attempts_kept))
                background.create_task(bundles.keep_wanted(settings.bundles_kept))
                background.create_task(follow_client_ca(cluster, certificate))
                background.create_task(certificate.watch(loaded, self._check_seconds))
                self._waiting_for = f"waiting for a certificate in {settings.tls_dir}"
                await loaded.wait()
                app = public_app(uploads, files, attempts, streams, bundles, self._metrics)
                app.on_shutdown.append(self._ending)
                async with _listening(app, settings.https_port, certificate) as https_port:
                    self._waiting_for = None
                    started(Ports(https=https_port, http=http_port))
                    await asyncio.Event().wait()

    async def _open_volume(self) -> Volume:
        store = Store(self._settings.data_dir)
        while True:
            try:
                await asyncio.to_thread(store.open)
            except StoreBusy as busy:
                if self._waiting_for != str(busy):
                    logger.warning("%s: waiting until it ends", busy)
                self._waiting_for = str(busy)
                await asyncio.sleep(BUSY_SECONDS)
            else:
                self._volume = Volume(store)
                return self._volume

    async def _ending(self, _: web.Application) -> None:
        self._waiting_for = "stopping"
        if self._volume is not None:
            self._volume.end_verifying()


@asynccontextmanager
async def _listening(app: web.Application, port: int, certificate: Certificate | None = None) -> AsyncIterator[int]:
    """Serves `app` on every address for the block; the port that it got."""
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=STOP_SECONDS,
        keepalive_timeout=75,
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        auto_decompress=False,
    )
    await runner.setup()
    try:
        listener = _listener(port)
        await web.SockSite(runner, listener, ssl_context=certificate.context if certificate else None).start()
        yield int(listener.getsockname()[1])
    finally:
        await runner.cleanup()


def _listener(port: int) -> socket.socket:
    """One socket for IPv6 and IPv4, or for IPv4 alone where a node has nothing else."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("0.0.0.0", port))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(
            Gateway(settings).run(lambda ports: logger.info("listening on %d (TLS) and %d", ports.https, ports.http))
        )
        await stop.wait()
        logger.info("stopping")
        serving.cancel()


def main() -> int:
    """Runs the gateway until SIGTERM; the exit code. 2: a setting is wrong."""
    try:
        settings = Settings.from_environment()
    except SettingError as error:
        sys.stderr.write(f"edgewise-gateway: {error}\n")
        return 2
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
