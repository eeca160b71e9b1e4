"""The certificates of the operator and the gateway: made, kept in Secrets, renewed before they end.

Owns the CA and the serving certificates where the installation has them generated; with existing ones (cert-manager,
an admin's Secrets) it only reads. Certificates are backdated by a day, for devices whose clock is behind.
"""

import asyncio
import base64
import logging
import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import json

from edgewise.control.settings import Settings
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused, Unreachable

BACKDATED: Final = timedelta(days=1)
CA_LIFE: Final = timedelta(days=3650)
SERVING_LIFE: Final = timedelta(days=90)
LOOK_EVERY: Final = timedelta(hours=1)
RETRY_EVERY: Final = timedelta(seconds=2)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        """The key, unencrypted."""
        encoding, layout = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, layout, serialization.NoEncryption())

    @property
    def certificate_pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def due(self, now: datetime) -> bool:
        """Whether two thirds of its life are over, so that it is time for another."""
        start, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return now >= start + (end - start) * 2 / 3


def new_ca(now: datetime) -> Pair:
    """A new certificate authority, for `CA_LIFE`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edgewise CA {now:%Y-%m-%d}")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    public = key.public_key()
    builder = (
        _builder(name, name, public, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return Pair(key, builder.sign(key, hashes.SHA256()))


def new_serving(ca: Pair, names: list[str], now: datetime) -> Pair:
    """A new serving certificate for these DNS names, for `SERVING_LIFE`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issuer = ca.certificate.subject
    builder = (
        _builder(subject, issuer, key.public_key(), now, SERVING_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    return Pair(key, builder.sign(ca.key, hashes.SHA256()))


def service_names(service: str, namespace: str) -> list[str]:
    """The DNS names of a Service, and localhost for a port-forward."""
    return [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local", service, "localhost"]


@dataclass(slots=True)
class Certificates:
    """Keeps the Secrets and the ConfigMap in order, and the operator's own TLS context loaded."""

    client: KubeClient
    settings: Settings
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    _loaded: bytes = b""

    async def run(self) -> None:
        """Look after the certificates without end."""
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())
            try:
                await self.ensure()
            except (Refused, Unreachable) as error:
                logger.warning("%s; the certificates are looked after later", error)

    async def start(self) -> None:
        """Ensure that there are certificates; waits for the API server and for Secrets that others make."""
        while True:
            try:
                await self.ensure()
            except (Refused, Unreachable) as error:
                logger.warning("%s; trying again in %s", error, RETRY_EVERY)
                await asyncio.sleep(RETRY_EVERY.total_seconds())
            else:
                return

    async def ensure(self) -> None:
        """Make what is missing or due, and load the operator's certificate. Raises as the client does."""
        settings, now = self.settings, datetime.now(UTC)
        if settings.tls_mode == "Generated":
            ca = await self._ca(now)
            for secret, service in (
                (settings.operator_tls_secret, settings.beats_service),
                (settings.gateway_tls_secret, settings.gateway_service),
            ):
                await self._serving(secret, service, ca, now)
        data = await self._secret(settings.operator_tls_secret)
        if data is None:
            raise Refused("read", HTTPStatus.NOT_FOUND, "NotFound", f"Secret {settings.operator_tls_secret} is missing")
        self._load(data["tls.crt"], data["tls.key"])

    async def _ca(self, now: datetime) -> Pair:
        """The CA; a new one beside the old one where it is due, so that both are trusted for a while."""
        data = await self._secret(self.settings.ca_name)
        pair = _pair(data)
        bundle = (data or {}).get("ca.crt", b"")
        if pair is None or pair.due(now):
            pair = new_ca(now)
            bundle = pair.certificate_pem + _unexpired(bundle, now)
            await self._keep(self.settings.ca_name, pair, bundle, exists=data is not None)
            logger.info("a new CA has been made")
        await self._publish(bundle)
        return pair

    async def _serving(self, secret: str, service: str, ca: Pair, now: datetime) -> None:
        data = await self._secret(secret)
        pair = _pair(data)
        names = service_names(service, self.settings.namespace)
        if pair is None or pair.due(now) or _names(pair) != names or not _signed_by(pair, ca):
            pair = new_serving(ca, names, now)
            await self._keep(secret, pair, ca.certificate_pem, exists=data is not None)
            logger.info("a new certificate for %s has been made", service)

    async def _secret(self, name: str) -> dict[str, bytes] | None:
        try:
            answer = await self.client.ask("GET", self._path("secrets", name))
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        data: dict[str, str] = json.decode(answer).get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    async def _keep(self, name: str, pair: Pair, ca: bytes, *, exists: bool) -> None:
        content = {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem, "ca.crt": ca}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "edgewise"}},
            "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
        }
        await self._put("secrets", name, body, exists=exists)

    async def _publish(self, bundle: bytes) -> None:
        """Keep the ConfigMap that agents and users trust."""
        name = self.settings.ca_name
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "edgewise"}},
            "data": {"ca.crt": bundle.decode()},
        }
        try:
            answer = json.decode(await self.client.ask("GET", self._path("configmaps", name)))
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            await self._put("configmaps", name, body, exists=False)
            return
        if answer.get("data") != body["data"]:
            await self._put("configmaps", name, body, exists=True)

    async def _put(self, plural: str, name: str, body: dict[str, Any], *, exists: bool) -> None:
        if exists:
            await self.client.ask("PATCH", self._path(plural, name), body, content_type=MERGE_PATCH)
        else:
            await self.client.ask("POST", self._path(plural, ""), body)

    def _path(self, plural: str, name: str) -> str:
        return f"/api/v1/namespaces/{self.settings.namespace}/{plural}/{name}".rstrip("/")

    def _load(self, certificate: bytes, key: bytes) -> None:
        """Serve new connections with this certificate. The key touches memory only."""
        if certificate == self._loaded:
            return
        with _memory_file(certificate) as crt, _memory_file(key) as private:
            self.context.load_cert_chain(f"/proc/self/fd/{crt.fileno()}", f"/proc/self/fd/{private.fileno()}")
        self._loaded = certificate


def _memory_file(content: bytes) -> Any:
    file = os.fdopen(os.memfd_create("edgewise"), "wb+")
    file.write(content)
    file.flush()
    return file


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _pair(data: dict[str, bytes] | None) -> Pair | None:
    """The key and certificate of a Secret; None where it holds none that can be read."""
    if not data or "tls.crt" not in data or "tls.key" not in data:
        return None
    try:
        key = serialization.load_pem_private_key(data["tls.key"], None)
        certificate = x509.load_pem_x509_certificate(data["tls.crt"])
    except ValueError:
        return None
    return Pair(key, certificate) if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _names(pair: Pair) -> list[str]:
    try:
        names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.DNSName)


def _signed_by(pair: Pair, ca: Pair) -> bool:
    try:
        pair.certificate.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _unexpired(bundle: bytes, now: datetime) -> bytes:
    """The certificates of a bundle that still hold."""
    if not bundle.strip():
        return b""
    certificates = x509.load_pem_x509_certificates(bundle)
    pem = serialization.Encoding.PEM
    return b"".join(one.public_bytes(pem) for one in certificates if one.not_valid_after_utc > now)
