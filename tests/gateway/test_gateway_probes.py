"""What the cluster sees of a gateway: readiness, metrics, a certificate that changes while it serves, its document."""

import asyncio
import re
import shutil
from urllib.parse import urlsplit

import aiohttp
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from edgewise.gateway.main import Gateway, Ports
from edgewise.gateway.openapi import document
from edgewise.gateway.store import Store
from edgewise_agent.wire import Problem
from msgspec import json

from tests.gateway.sending import FACES, send
from tests.gateway.surroundings import World, eventually, free_port


async def served_name(world: World) -> str:
    """The common name of the certificate that a new connection gets."""
    port = urlsplit(world.url).port
    _, writer = await asyncio.open_connection("localhost", port, ssl=world.authority.client_context())
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(shown)
        return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    finally:
        writer.close()
        await writer.wait_closed()


async def readiness(port: int) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://localhost:{port}/readyz") as response:
        return response.status, await response.text()


async def test_a_new_certificate_is_served_without_a_restart(world: World) -> None:
    async with world.gateway() as session:
        assert await served_name(world) == "gateway"
        world.authority.write_pair(world.settings.tls_dir, "renewed")

        async def renewed() -> bool:
            return await served_name(world) == "renewed"

        await eventually(renewed, "the new certificate is served")
        await send(session, {"faces.csv": FACES})


async def test_a_pair_that_does_not_fit_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.gateway():
        certificate = world.settings.tls_dir / "tls.crt"
        kept = certificate.read_bytes()
        world.authority.write_pair(world.settings.tls_dir, "renewed")
        certificate.write_bytes(kept)

        async def noticed() -> bool:
            return "serving the one before" in caplog.text

        await eventually(noticed, "the pair that does not fit is reported")
        assert await served_name(world) == "gateway"


async def test_not_ready_before_there_is_a_certificate(world: World) -> None:
    shutil.rmtree(world.settings.tls_dir)
    world.use_http_port(free_port())
    started: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Gateway(world.settings, 0.05).run(started.set_result))

        async def waits_for_it() -> bool:
            try:
                status, reason = await readiness(world.settings.http_port)
            except aiohttp.ClientConnectionError:
                return False
            return status == 503 and "certificate" in reason

        await eventually(waits_for_it, "the gateway says that it waits for a certificate")
        assert not started.done()
        world.authority.write_pair(world.settings.tls_dir, "gateway")
        await started
        assert await readiness(world.settings.http_port) == (200, "ready\n")
        running.cancel()


async def test_a_volume_in_use_is_waited_for(world: World) -> None:
    owner = Store(world.settings.data_dir)
    owner.open()
    world.use_http_port(free_port())
    started: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Gateway(world.settings).run(started.set_result))

        async def waits_for_it() -> bool:
            try:
                status, reason = await readiness(world.settings.http_port)
            except aiohttp.ClientConnectionError:
                return False
            return status == 503 and "in use by another gateway" in reason

        await eventually(waits_for_it, "the gateway says that the volume is in use")
        owner.close()
        await started
        running.cancel()


async def test_metrics_count_what_happens(world: World) -> None:
    async with world.gateway() as session:
        await send(session, {"faces.csv": FACES})
        async with aiohttp.ClientSession(world.probes) as probes:
            async with probes.get("/healthz") as response:
                assert (response.status, await response.text()) == (200, "alive\n")
            async with probes.get("/metrics") as response:
                metrics = await response.text()
        assert f"edgewise_gateway_received_bytes_total {float(len(FACES))}" in metrics
        assert re.search(r'requests_total{method="PUT",route="/v1/uploads/{job}/{pod}",status="200"} 1.0', metrics)
        assert re.search(r"edgewise_gateway_volume_free_bytes [1-9]", metrics)


async def test_the_document_names_every_path(world: World) -> None:
    async with world.gateway(), world.client(None) as session:
        async with session.get("/v1/openapi.json") as response:
            served = json.decode(await response.read())
        assert served == json.decode(json.encode(document()))
        examples = {"namespace": "demo", "job": "faces", "name": "a.csv", "pod": "x", "sha256": "x", "number": 1}
        examples |= {"digest": "x", "stream": "scan", "run": "scan-1"}
        for path, operations in served["paths"].items():
            for method in operations.keys() - {"parameters"}:
                async with session.request(method.upper(), path.format_map(examples)) as response:
                    body = await response.read()
                    if path != "/v1/openapi.json" and method != "head":
                        assert json.decode(body, type=Problem).reason in ("NoToken", "BadPath")
                    assert response.status != 404
        references = set(re.findall(r'"#/components/schemas/(\w+)"', json.encode(served).decode()))
        assert references <= served["components"]["schemas"].keys()


async def test_a_method_that_there_is_not(world: World) -> None:
    async with world.gateway(), world.client(None) as session, session.delete("/v1/openapi.json") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
        assert json.decode(await response.read(), type=Problem).reason == "MethodNotAllowed"
