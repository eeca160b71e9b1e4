"""The cluster's keys and certificates: one authority for all, one more for the aggregation layer.

Made once per fleet under .testbed/pki and never reused by another. Certificates
are backdated by a day, so that a machine whose clock was set back still works.
"""

import base64
import ipaddress
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BACKDATED = timedelta(days=1)
_VALID = timedelta(days=365)
_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
_SIGNS = x509.KeyUsage(
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


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; made on first use."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        if not self.pair.certificate.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            builder = _builder(_subject(f"edgewise-testbed-{name}"), key.public_key())
            builder = builder.issuer_name(_subject(f"edgewise-testbed-{name}"))
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            builder = builder.add_extension(_SIGNS, critical=True)
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            _write(self.pair, key, builder.sign(key, hashes.SHA256()))

    def issue(self, file: str, common_name: str, organization: str = "", hosts: tuple[str, ...] = ()) -> Pair:
        """A certificate for `common_name`, also a server's for `hosts` (names or addresses)."""
        pair = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        if not pair.certificate.exists():
            authority = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
            signing = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
            if not isinstance(signing, ec.EllipticCurvePrivateKey):
                raise TypeError(f"{self.pair.key} is no EC key")
            key = ec.generate_private_key(ec.SECP256R1())
            builder = _builder(_subject(common_name, organization), key.public_key())
            builder = builder.issuer_name(authority.subject).add_extension(_USAGE, critical=False)
            signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
            builder = builder.add_extension(signer, critical=False)
            if hosts:
                builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
            _write(pair, key, builder.sign(signing, hashes.SHA256()))
        return pair


def key_pair(folder: Path, name: str) -> Pair:
    """A bare key pair (its `certificate` is the public key), as service accounts need."""
    pair = Pair(folder / f"{name}.pub", folder / f"{name}.key")
    if not pair.certificate.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(_private(key))
        pair.certificate.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    return pair


def kubeconfig(server: str, authority: Authority, client: Pair) -> str:
    """A kubeconfig with everything inside; JSON, which is YAML."""
    user = {
        "client-certificate-data": _data(client.certificate),
        "client-key-data": _data(client.key),
    }
    cluster = {"server": server, "certificate-authority-data": _data(authority.pair.certificate)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "edgewise", "cluster": cluster}],
        "users": [{"name": "edgewise", "user": user}],
        "contexts": [{"name": "edgewise", "context": {"cluster": "edgewise", "user": "edgewise"}}],
        "current-context": "edgewise",
    }
    return json.dumps(config, indent=2) + "\n"


def _builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )


def _subject(common_name: str, organization: str = "") -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(names)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(pair: Pair, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    pair.key.touch(mode=0o600)
    pair.key.write_bytes(_private(key))
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
