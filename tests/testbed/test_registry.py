"""The image registry: what is pulled is whole, and new each time."""

import gzip
import hashlib
import io
import json
import tarfile
import urllib.request
from pathlib import Path

import pytest

from testbed import registry

ADDRESS = "127.0.0.1:15000"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A docker archive of one layer with one file."""
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        add(tar, "hello", b"world")
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": ["sha256:old"]}}).encode()
    file = tmp_path / "image.tar"
    with tarfile.open(file, "w") as tar:
        add(tar, "manifest.json", json.dumps([{"Config": "c.json", "Layers": ["l.tar"]}]).encode())
        add(tar, "c.json", config)
        add(tar, "l.tar", layer.read_bytes())
    return file


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def fetch(path: str) -> bytes:
    with urllib.request.urlopen(f"http://{ADDRESS}{path}", timeout=5) as answer:
        content: bytes = answer.read()
    return content


def test_pulled_image_is_whole_and_unlike_any_before(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "IMAGE_REGISTRY", ADDRESS)
    references = []
    for _ in range(2):
        with registry.serving(archive, "some/image") as served:
            references.append(served.reference)
            digest = served.reference.partition("@")[2]
            manifest = fetch(f"/v2/some/image/manifests/{digest}")
            described = json.loads(manifest)
            [layer] = described["layers"]
            blob = fetch(f"/v2/some/image/blobs/{layer['digest']}")
            config = json.loads(fetch(f"/v2/some/image/blobs/{described['config']['digest']}"))

        assert digest == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        assert layer["digest"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
        plain = gzip.decompress(blob)
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(plain).hexdigest()}"]
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            assert tar.getnames() == ["hello", "etc/edgewise-registry"]

    assert references[0] != references[1]
