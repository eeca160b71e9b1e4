"""What a gateway lives among, as real servers on loopback: the API server's three paths, an operator, a CA.

These play the other side only; what they are told to answer is plain data that a test sets.
"""

import asyncio
import dataclasses
import datetime
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from edgewise.gateway.main import Gateway, Ports
from edgewise.gateway.settings import Settings
from edgewise_agent.wire import Manifest, ManifestVerdict, PlannedFile, UploadPlan, Verdict
from msgspec import json

NAMESPACE = "edgewise-system"
AGENT = f"system:serviceaccount:{NAMESPACE}:edgewise-agent"
API_AUDIENCE = "https://kubernetes.default.svc"
JOB_UID = "11111111-1111-4111-8111-111111111111"
OTHER_JOB_UID = "22222222-2222-4222-8222-222222222222"
POD_UID = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER_POD_UID = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
DEADLINE_SECONDS = 10.0


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def plan_of(
    files: dict[str, bytes],
    *,
    logs: dict[str, bytes] | None = None,
    attempt: int = 1,
    pod_name: str = "faces-11111-1",
) -> UploadPlan:
    """The plan that an agent makes of these files and logs."""
    planned, said = (
        tuple(PlannedFile(name=name, bytes_=len(content), sha256=sha256(content)) for name, content in given.items())
        for given in (files, logs or {})
    )
    return UploadPlan(namespace="demo", job="faces", attempt=attempt, pod_name=pod_name, files=planned, logs=said)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns once `condition` holds; fails by name after the deadline."""
    end = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {DEADLINE_SECONDS} s: {what}"
        await asyncio.sleep(0.02)


class Authority:
    """A CA of its own that signs certificates for localhost."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        certificate = self._certificate(self._name, self._key, None)
        self.file = folder / "ca.crt"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def write_pair(self, folder: Path, common_name: str) -> None:
        """Puts a new key and its certificate into `folder`, as kubelet names them in a TLS Secret."""
        self._write_pair(folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), "localhost")

    def _write_pair(self, folder: Path, name: x509.Name, host: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(name, key, host)
        folder.mkdir(exist_ok=True)
        folder.joinpath("tls.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        folder.joinpath("tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)

    def write_client(self, folder: Path, common_names: tuple[str, ...], organizations: tuple[str, ...] = ()) -> None:
        """The same for a user of the cluster."""
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
        names += [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names]
        self._write_pair(folder, x509.Name(names), "client")

    def _certificate(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, host: str | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if host is None:
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
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Token:
    """Whom the API server takes a token for."""

    username: str
    audience: str = "edgewise"
    node: str | None = None


@dataclass
class ApiServer:
    """The paths of the API server that the gateway asks, answering from plain dictionaries."""

    tokens: dict[str, Token] = field(default_factory=dict)
    readers: set[tuple[str, str, str]] = field(default_factory=set)
    """(username, namespace, job) that RBAC allows"""
    streams: dict[tuple[str, str], str] = field(default_factory=dict)
    """the UID of each EdgeStream, by namespace and name"""
    stream_readers: set[tuple[str, str, str]] = field(default_factory=set)
    """(username, namespace, stream) that RBAC allows"""
    app_users: set[tuple[str, str, str]] = field(default_factory=set)
    """(username, namespace, verb) that RBAC allows on EdgeApps"""
    apps: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    client_ca: str = ""
    """what signs users' certificates; empty: the gateway may not know"""
    annotations: dict[str, str] = field(default_factory=dict)
    """those of every Namespace"""
    broken: bool = False
    without_kinds: bool = False
    asked: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    """those of the user whom the last access review was about"""
    url: str = ""

    def add_job(self, uid: str, attempts: list[dict[str, Any]], *, created: str = "2026-01-01T00:00:00Z") -> None:
        metadata = {"name": "faces", "namespace": "demo", "uid": uid, "creationTimestamp": created}
        self.jobs["demo", "faces"] = {"metadata": metadata, "spec": {}, "status": {"attempts": attempts}}

    def make_run(self, stream: str, stream_uid: str) -> None:
        """The job is a run of that stream."""
        owner = {"kind": "EdgeStream", "name": stream, "uid": stream_uid, "controller": True}
        self.jobs["demo", "faces"]["metadata"]["ownerReferences"] = [owner]

    def name_bundle(self, digest: str) -> None:
        """An EdgeApp that names the bundle, beside some that name none."""
        metadata = {"name": "faces", "namespace": "demo"}
        spec = {"source": {"bundle": {"digest": digest}}}
        others: tuple[dict[str, Any], ...] = (
            {},
            {"source": None},
            {"source": {"configMap": {"name": "code"}, "bundle": None}},
        )
        self.apps = [{"metadata": metadata, "spec": one} for one in (*others, spec)]

    def add_attempt(self) -> None:
        """The job's second attempt, on edge-2."""
        attempt = {"number": 2, "node": "edge-2", "podName": "faces-11111-2", "podUID": OTHER_POD_UID}
        self.jobs["demo", "faces"]["status"]["attempts"].append(attempt)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._noting])
        app.add_routes(
            [
                web.post("/apis/authentication.k8s.io/v1/tokenreviews", self._review_token),
                web.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._review_access),
                web.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication", self._get_ca),
                web.get("/api/v1/namespaces/{ns}", self._get_namespace),
                web.get("/apis/edgewise.dev/v1alpha1/edgejobs", self._list_jobs),
                web.get("/apis/edgewise.dev/v1alpha1/edgeapps", self._list_apps),
                web.get("/apis/edgewise.dev/v1alpha1/namespaces/{ns}/edgejobs/{job}", self._get_job),
                web.get("/apis/edgewise.dev/v1alpha1/namespaces/{ns}/edgestreams/{stream}", self._get_stream),
            ]
        )
        return app

    @web.middleware
    async def _noting(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if "configmaps" not in request.path and not request.path.endswith(
            ("/edgejobs", "/edgeapps")
        ):  # asked by the clock
            self.asked.append(request.path.rpartition("/")[2])
        if self.broken:
            return web.json_response({"kind": "Status", "message": "etcd is away", "reason": "Unavailable"}, status=503)
        return await handler(request)

    async def _review_token(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        audiences = spec.get("audiences") or [API_AUDIENCE]
        token = self.tokens.get(spec["token"])
        if token is None or token.audience not in audiences:
            return web.json_response({"status": {"user": {}, "error": "token refused"}}, status=201)
        extra = {"authentication.kubernetes.io/node-name": [token.node]} if token.node else {}
        user = {"username": token.username, "groups": ["system:authenticated"], "extra": extra}
        status = {"authenticated": True, "user": user, "audiences": [token.audience]}
        return web.json_response({"status": status}, status=201)

    async def _review_access(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        asked = spec["resourceAttributes"]
        assert spec["groups"][-1] == "system:authenticated"
        self.groups = spec["groups"][:-1]
        if asked["resource"] == "edgeapps":
            allowed = (spec["user"], asked["namespace"], asked["verb"]) in self.app_users
        elif asked["resource"] == "edgestreams":
            assert asked["verb"] == "get"
            allowed = (spec["user"], asked["namespace"], asked["name"]) in self.stream_readers
        else:
            assert (asked["group"], asked["resource"], asked["verb"]) == ("edgewise.dev", "edgejobs", "get")
            allowed = (spec["user"], asked["namespace"], asked["name"]) in self.readers
        return web.json_response({"status": {"allowed": allowed}}, status=201)

    async def _get_ca(self, _: web.Request) -> web.Response:
        if not self.client_ca:
            return web.json_response({"kind": "Status", "reason": "Forbidden", "message": "no"}, status=403)
        return web.json_response({"data": {"client-ca-file": self.client_ca}})

    async def _get_namespace(self, request: web.Request) -> web.Response:
        metadata = {"name": request.match_info["ns"], "annotations": self.annotations}
        return web.json_response({"metadata": metadata})

    async def _list_jobs(self, request: web.Request) -> web.Response:
        """In pages of one."""
        jobs = list(self.jobs.values())
        first = int(request.query.get("continue", "0"))
        metadata = {"continue": str(first + 1)} if first + 1 < len(jobs) else {}
        return web.json_response({"metadata": metadata, "items": jobs[first : first + 1]})

    async def _list_apps(self, _: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": self.apps})

    async def _get_job(self, request: web.Request) -> web.Response:
        if self.without_kinds:
            return web.Response(text="404 page not found\n", status=404)
        key = request.match_info["ns"], request.match_info["job"]
        if key not in self.jobs:
            message = f'edgejobs.edgewise.dev "{key[1]}" not found'
            return web.json_response({"kind": "Status", "reason": "NotFound", "message": message}, status=404)
        return web.json_response(self.jobs[key])

    async def _get_stream(self, request: web.Request) -> web.Response:
        key = request.match_info["ns"], request.match_info["stream"]
        if key not in self.streams:
            message = f'edgestreams.edgewise.dev "{key[1]}" not found'
            return web.json_response({"kind": "Status", "reason": "NotFound", "message": message}, status=404)
        return web.json_response({"metadata": {"name": key[1], "namespace": key[0], "uid": self.streams[key]}})


@dataclass
class Operator:
    """The operator's side of a manifest: says `verdicts` in turn, the last one for ever."""

    verdicts: list[Verdict | int] = field(default_factory=lambda: [Verdict.PUBLISHED])
    """an int is an HTTP status without a verdict"""
    by_pod: dict[str, Verdict] = field(default_factory=dict)
    """what is said about these pods' manifests instead"""
    manifests: list[Manifest] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/v1/manifests", self._post)])
        return app

    async def _post(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers["Authorization"])
        manifest = json.decode(await request.read(), type=Manifest)
        self.manifests.append(manifest)
        answer: Verdict | int
        if manifest.pod_uid in self.by_pod:
            answer = self.by_pod[manifest.pod_uid]
        else:
            answer = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if isinstance(answer, int):
            return web.json_response({"reason": "NotLeading", "detail": "ask the leader"}, status=answer)
        return web.Response(body=json.encode(ManifestVerdict(verdict=answer)), content_type="application/json")


@asynccontextmanager
async def serving(app: web.Application, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serves `app` on a free port of loopback; its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"{'https' if context else 'http'}://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class World:
    """Everything around a gateway, and the way to start one."""

    authority: Authority
    api: ApiServer
    operator: Operator
    settings: Settings
    ports: Ports | None = None

    @property
    def url(self) -> str:
        assert self.ports is not None
        return f"https://localhost:{self.ports.https}"

    @property
    def probes(self) -> str:
        assert self.ports is not None
        return f"http://localhost:{self.ports.http}"

    def on_volume(self, pattern: str) -> list[Path]:
        """What there is on the results volume that fits a glob pattern."""
        return sorted(self.settings.data_dir.glob(pattern))

    def use_http_port(self, port: int) -> None:
        """Fixes the port of the probes, so that they can be asked before the gateway says where it listens."""
        self.settings = dataclasses.replace(self.settings, http_port=port)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A gateway for the block, and a client that trusts it and shows the token of edge-1's agent."""
        started: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(Gateway(self.settings, certificate_check_seconds=0.05).run(started.set_result))
            self.ports = await started
            async with self.client("agent-1") as session:
                yield session
            running.cancel()

    def client(self, token: str | None, certificate: Path | None = None) -> aiohttp.ClientSession:
        """A client of the running gateway, with or without a token and a client certificate."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        context = self.authority.client_context()
        if certificate is not None:
            context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
        connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(self.url, headers=headers, connector=connector)


def kubeconfig(url: str) -> str:
    """A kubeconfig for a server without TLS."""
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        f"clusters: [{{name: here, cluster: {{server: '{url}'}}}}]\n"
        "users: [{name: gateway, user: {token: gateway-token}}]\n"
        "contexts: [{name: here, context: {cluster: here, user: gateway}}]\n"
    )
