"""Certificates that a client trusts by the CA alone, for the names that agents and users call."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgewise.control.certificates import SERVING_LIFE, Pair, new_ca, new_serving, service_names

NOW = datetime.now(UTC)
NAMES = service_names("edgewise-gateway", "edgewise-system")


async def handshake(folder: Path, serving: Pair, trusted: bytes, name: str) -> None:
    """A TLS handshake over loopback. Raises ssl.SSLError when the client does not trust the server."""
    (folder / "tls.pem").write_bytes(serving.certificate_pem + serving.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    client = ssl.create_default_context(cadata=trusted.decode())
    async with server:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", ["edgewise-gateway.edgewise-system.svc", "localhost"])
async def test_trusted_by_the_ca(tmp_path: Path, name: str) -> None:
    ca = new_ca(NOW)
    await handshake(tmp_path, new_serving(ca, NAMES, NOW), ca.certificate_pem, name)


async def test_not_trusted_for_other_names_or_by_another_ca(tmp_path: Path) -> None:
    ca = new_ca(NOW)
    serving = new_serving(ca, NAMES, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tmp_path, serving, ca.certificate_pem, "example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tmp_path, serving, new_ca(NOW).certificate_pem, NAMES[0])


def test_backdated_for_devices_whose_clock_is_behind() -> None:
    ca = new_ca(NOW)
    for pair in (ca, new_serving(ca, NAMES, NOW)):
        assert pair.certificate.not_valid_before_utc <= NOW - timedelta(hours=23)


def test_renewed_after_two_thirds_of_its_life() -> None:
    serving = new_serving(new_ca(NOW), NAMES, NOW)
    assert not serving.due(NOW + SERVING_LIFE / 2)
    assert serving.due(NOW + SERVING_LIFE * 0.7)
