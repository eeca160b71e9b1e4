"""A read-only image registry on the fleet's own address, for pulls over the network as on a real fleet.

It serves one image at a time, made from an archive with a layer that no device has seen, so that a device must fetch
and unpack all of it. It runs in the caller's process and only for as long as the block that asks for it.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from testbed.errors import FleetError
from testbed.network import IMAGE_REGISTRY

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_BYTES: Final = "application/octet-stream"
_QUICK: Final = 1
"""gzip's level: a pull takes about as long as with 9, and the archive is packed in seconds."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the registry serves: each blob's file by its digest, and the manifest."""

    manifest: bytes
    config_digest: str
    blobs: dict[str, Path]

    @property
    def digest(self) -> str:
        """The manifest's."""
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"

    @property
    def compressed_bytes(self) -> int:
        """What a device fetches."""
        return sum(file.stat().st_size for file in self.blobs.values())


@dataclass(frozen=True, slots=True)
class Served:
    """An image that can be pulled now.

    Attributes:
        reference: the name that pods use.
        image_id: the name that a device's containerd gives it besides.
        compressed_bytes: what a device fetches.
    """

    reference: str
    image_id: str
    compressed_bytes: int


@dataclass(slots=True)
class Packed:
    """An image's layers on the way into the registry."""

    folder: Path
    blobs: dict[str, Path] = field(default_factory=dict)

    def add(self, file: Path, media_type: str) -> dict[str, Any]:
        """Takes a blob in; its descriptor."""
        with file.open("rb") as content:
            digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
        self.blobs[digest] = file
        return {"mediaType": media_type, "digest": digest, "size": file.stat().st_size}


@contextmanager
def serving(archive: Path, name: str) -> Iterator[Served]:
    """Serves the image of a docker archive as `name`, unlike any that a device has.

    Raises:
        FleetError: another program has the registry's port.
    """
    host, port = urlsplit(f"//{IMAGE_REGISTRY}").hostname, urlsplit(f"//{IMAGE_REGISTRY}").port
    with TemporaryDirectory(prefix="edgewise-registry-") as folder:
        content = _packed(archive, Path(folder))
        handler = type("Handler", (_Handler,), {"content": content})
        try:
            server = ThreadingHTTPServer((host or "", port or 0), handler)
        except OSError as error:
            raise FleetError(f"no registry on {IMAGE_REGISTRY}: {error}") from error
        thread = threading.Thread(target=server.serve_forever, name="registry")
        thread.start()
        try:
            reference = f"{IMAGE_REGISTRY}/{name}@{content.digest}"
            yield Served(reference, content.config_digest, content.compressed_bytes)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _packed(archive: Path, folder: Path) -> Content:
    """The image as a registry holds it: gzipped layers, the first with one more file of a content of its own."""
    packed = Packed(folder)
    with tarfile.open(archive) as tar:
        index = json.load(_member(tar, "manifest.json"))[0]
        config = json.load(_member(tar, index["Config"]))
        layers = []
        for number, layer in enumerate(index["Layers"]):
            plain = folder / f"layer-{number}.tar"
            with plain.open("wb") as target:
                shutil.copyfileobj(_member(tar, layer), target)
            if number == 0:
                _mark(plain, folder.name)
                with plain.open("rb") as content:
                    config["rootfs"]["diff_ids"][0] = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
            zipped = folder / f"layer-{number}.tar.gz"
            with plain.open("rb") as source, gzip.open(zipped, "wb", _QUICK) as target:
                shutil.copyfileobj(source, target)
            plain.unlink()
            layers.append(packed.add(zipped, _LAYER))
    configuration = folder / "config.json"
    configuration.write_text(json.dumps(config))
    described = packed.add(configuration, _CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers}
    return Content(json.dumps(manifest).encode(), described["digest"], packed.blobs)


def _member(tar: tarfile.TarFile, name: str) -> Any:
    member = tar.extractfile(name)
    if member is None:
        raise FleetError(f"{tar.name!s} holds no {name}: delete it")
    return member


def _mark(layer: Path, text: str) -> None:
    """Adds a small file, so that the layer's digest is new."""
    with tarfile.open(layer, "a") as tar:
        entry = tarfile.TarInfo("etc/edgewise-registry")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))


class _Handler(BaseHTTPRequestHandler):
    """The part of the distribution API that a pull by digest needs."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[Content]

    def do_GET(self) -> None:
        """Answers a fetch."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answers a question after size and type."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path).path.rstrip("/").split("/")
        kind, reference = (parts[-2], parts[-1]) if len(parts) > 3 else ("", "")
        if parts == ["", "v2"]:
            self._head(HTTPStatus.OK, 2, "application/json")
            self.wfile.write(b"{}" if with_body else b"")
        elif kind == "manifests" and reference == self.content.digest:
            self._head(HTTPStatus.OK, len(self.content.manifest), _MANIFEST, reference)
            self.wfile.write(self.content.manifest if with_body else b"")
        elif kind == "blobs" and reference in self.content.blobs:
            file = self.content.blobs[reference]
            self._head(HTTPStatus.OK, file.stat().st_size, _BYTES, reference)
            if with_body:
                with file.open("rb") as body:
                    shutil.copyfileobj(body, self.wfile, 1 << 20)
        else:
            self._head(HTTPStatus.NOT_FOUND, 0, _BYTES)

    def _head(self, status: HTTPStatus, length: int, media_type: str, digest: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", media_type)
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: containerd's log has it."""
