"""The operator's process: waits to lead, then runs the watches, the intake of beats and the cycle together.

Owns start and stop. If any part ends, all end, and kubelet starts the process anew, or after a lost Lease it does so
itself: state is in the API.
"""

import argparse
import asyncio
import gc
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn

import kopf
import uvloop

from edgewise.beats.http import Intake, serve
from edgewise.control.audit import Audit
from edgewise.control.certificates import Certificates
from edgewise.control.cycle import Cycle
from edgewise.control.drain import drain
from edgewise.control.handlers import register
from edgewise.control.health import Check, Health
from edgewise.control.leadership import LeadershipLost, lead_when_elected, lease_of
from edgewise.control.lease import Lease
from edgewise.control.leases import LeaseReader
from edgewise.control.objects import decode_node, decode_pod
from edgewise.control.reflector import Reflector
from edgewise.control.settings import Settings, SettingsError, from_environment
from edgewise.control.teller import Teller
from edgewise.control.world import NodeSink, PodSink, World
from edgewise.control.writer import Writer
from edgewise.domain.pods import JOB_LABEL
from edgewise.domain.views import Installation
from edgewise.kube.client import KubeClient
from edgewise.kube.tokens import Tokens

KOPF_WORKERS: Final = 16
"""No more: and no @kopf.index may be registered, since its first listing waits for all objects at once."""
KOPF_IDLE_SECONDS: Final = 0.01

GARBAGE_OBJECTS: Final = 20_000
"""How many new objects start a search for garbage."""

logger = logging.getLogger(__name__)


class Backoffs:
    """Short pauses without end: kopf's own grow to 21 s, and lasting faults would end it."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.1, 0.3, 1.0), itertools.repeat(2.0))


class NoMemory(kopf.DiffBaseStorage):
    """kopf shall not work out what changed since the last event: it copies the whole object, and nobody asks."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        """Nothing of the object."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was kept."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


def main() -> None:
    """The entry point `edgewise-operator`."""
    parser = argparse.ArgumentParser(prog="edgewise-operator", description="Decides where EdgeJobs run.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="run the operator (the default)")
    draining = commands.add_parser("drain", help="end every job pod, before Edgewise is uninstalled")
    draining.add_argument("--deployment", default="edgewise-operator", help="the operator's own Deployment")
    arguments = parser.parse_args()
    try:
        settings = from_environment()
    except SettingsError as error:
        sys.exit(f"edgewise-operator: {error}")
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        uvloop.run(_drain(settings, arguments.deployment) if arguments.command == "drain" else run(settings))
    except LeadershipLost as error:
        logger.warning("%s: this operator starts anew", error)
        _start_anew()
    except TimeoutError:
        sys.exit("edgewise-operator: some job pods are left: power their devices on, or remove those nodes")


def _start_anew() -> NoReturn:
    """Become a new process that remembers nothing, in the same container.

    To exit would have kubelet start the container again, after a while that doubles up to five minutes: too late after
    the last of several outages of the API server.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606


async def _drain(settings: Settings, deployment: str) -> None:
    client = await KubeClient.connect(settings.kubeconfig)
    try:
        await drain(client, settings, deployment)
    finally:
        await client.close()


async def run(settings: Settings) -> None:
    """Wait to lead, then lead. Returns when asked to stop (SIGTERM, SIGINT)."""
    client = await KubeClient.connect(settings.kubeconfig)
    health = Health()
    lease = lease_of(client, settings)
    runner = await serve(health.application(), settings.http_port, None)
    leading = lead_when_elected(client, settings, lambda: lead(client, settings, health, lease), lease)
    work = asyncio.create_task(leading)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)  # until kopf sets its own
    try:
        await work
    except asyncio.CancelledError:
        logger.info("asked to stop before leading")
    finally:
        await runner.cleanup()
        await client.close()


async def lead(client: KubeClient, settings: Settings, health: Health, lease: Lease) -> None:
    """Act as the one operator, until one part ends."""

    def leads() -> bool:
        return lease.held

    world = World(
        Installation(
            default_policy=settings.default_policy,
            default_slots=settings.default_slots,
            beat_interval=settings.beat_interval,
            priority_class=settings.priority_class,
            gateway_url=settings.results_url,
            starvation=timedelta(seconds=settings.starvation_seconds),
            tenancies={name: one.tenancy for name, one in settings.namespaces.named.items()},
            default_tenancy=settings.namespaces.default.tenancy,
        )
    )
    pods = Reflector(
        client, "/api/v1/pods", decode_pod, PodSink(world), {"labelSelector": JOB_LABEL}, resync=settings.resync
    )
    nodes = Reflector(
        client,
        "/api/v1/nodes",
        decode_node,
        NodeSink(world),
        {"labelSelector": settings.edge_label},
        resync=settings.resync,
    )
    audit = Audit(client, world, settings.resync)
    leases = LeaseReader(client, world.leases, world.silent_nodes, world.touched.set)
    teller = Teller(client, settings.pod_name)
    cycle = Cycle(world, Writer(client, world, teller, leads))
    agent, gateway = (
        settings.username(settings.agent_service_account),
        settings.username(settings.gateway_service_account),
    )
    intake = Intake(world, Tokens(client), agent, gateway, leads)
    certificates = Certificates(client, settings)
    await certificates.start()
    runner = await serve(intake.application(), settings.intake_port, certificates.context)
    try:
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(pods.run(), name="pods"),
                group.create_task(nodes.run(), name="nodes"),
                group.create_task(audit.run(), name="audit"),
                group.create_task(leases.run(), name="leases"),
                group.create_task(teller.run(), name="teller"),
                group.create_task(certificates.run(), name="certificates"),
            ]
            kinds = group.create_task(_watch_kinds(world, settings.pod_name), name="kopf")
            parts.append(kinds)
            patience = settings.patience
            caches = (pods.complete, nodes.complete, audit.complete)
            health.checks.append(_late(caches, patience))
            await _first_look(kinds, *caches)
            _settle_memory()
            intake.ready = True
            health.checks += [
                *(_silent(reflector, patience) for reflector in (pods, nodes)),
                lambda: audit.fault(patience),
                _stuck(cycle, patience),
            ]
            parts.append(group.create_task(cycle.run(), name="cycle"))
            await kinds  # kopf ends when the process is asked to stop
            for part in parts:
                part.cancel()
    finally:
        await runner.cleanup()


def _settle_memory() -> None:
    """What is in memory now stays for good, so it need not be looked at each time that garbage is collected.

    A pass makes and drops many thousands of objects, nearly none of them in cycles; by default each 700 are looked at.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


async def _watch_kinds(world: World, name: str) -> None:
    """Have kopf watch our own kinds, until the process is asked to stop."""
    registry = kopf.OperatorRegistry()
    register(registry, world)
    kopf.on.login(registry=registry, id="login")(_login)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoMemory()
    settings.networking.error_backoffs = Backoffs()
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 600
    # Else a burst of a thousand objects is a thousand tasks that are ready at once, and nothing else gets its turn for
    # seconds: not even the Lease. An idle worker must end soon, since it keeps its place.
    settings.queueing.worker_limit = KOPF_WORKERS
    settings.queueing.idle_timeout = KOPF_IDLE_SECONDS
    os.environ["POD_ID"] = name  # how kopf is told its identity; else it asks for a user name, and there is none
    await kopf.operator(registry=registry, settings=settings, clusterwide=True, standalone=True)


async def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


async def _first_look(kinds: asyncio.Task[None], *caches: asyncio.Event) -> None:
    """Wait until every cache is complete: before that, absence means nothing. Ends early when `kinds` does."""

    async def complete() -> None:
        for cache in caches:
            await cache.wait()
        logger.info("every cache is complete; deciding")

    waiting = asyncio.create_task(complete())
    await asyncio.wait({waiting, kinds}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _late(caches: Sequence[asyncio.Event], patience: timedelta) -> Check:
    started_at = time.monotonic()

    def check() -> str | None:
        age = time.monotonic() - started_at
        late = age > patience.total_seconds() and not all(cache.is_set() for cache in caches)
        return f"after {age:.0f} s the caches are still not complete" if late else None

    return check


def _silent(reflector: Reflector[Any], patience: timedelta) -> Check:
    def check() -> str | None:
        silence = time.monotonic() - reflector.heard_at
        over = silence > (reflector.silence + patience).total_seconds()
        return f"nothing heard of {reflector.path} for {silence:.0f} s" if over else None

    return check


def _stuck(cycle: Cycle, patience: timedelta) -> Check:
    def check() -> str | None:
        age = time.monotonic() - cycle.passed_at
        return f"the last planning pass ended {age:.0f} s ago" if age > patience.total_seconds() else None

    return check


if __name__ == "__main__":
    main()
