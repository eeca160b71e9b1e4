"""Builds the fleet's images with buildah and loads them into devices.

An image's key is a hash of its Dockerfile, of what the Dockerfile copies from
the context and of its bases: the same content is built once, whatever checkout
it is in. The archive of each image stays in the cache; a device whose containerd
has it already is left alone.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import bases, binaries, paths
from testbed.commands import run
from testbed.errors import FleetError
from testbed.progress import say, step

REGISTRY = "edgewise.local"
_LABEL = "edgewise.dev/image-id"
_KEPT_ARCHIVES = 2

_CTR = ("ctr", "--connect-timeout", "60s")
"""A containerd that is busy unpacking takes longer than ctr's own 10 s to answer a second caller."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image, the Dockerfile that makes it and its build context."""

    name: str
    dockerfile: Path
    context: Path

    @property
    def reference(self) -> str:
        """The name that pods use."""
        return f"{REGISTRY}/{self.name}:dev"

    def key(self) -> str:
        """A hash of everything that the image is made from."""
        digest = hashlib.sha256(self.dockerfile.read_bytes())
        digest.update(f"{bases.RUNTIME.tag} {bases.BUILDER.tag}".encode())
        for source in copied(self.dockerfile.read_text()):
            for file in sorted(_files(self.context, source)):
                digest.update(f"{file.relative_to(self.context)}\0{file.stat().st_mode & 0o777:o}\0".encode())
                digest.update(file.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Built:
    """A built image: its archive in the cache."""

    name: str
    reference: str
    archive: Path


def system_images() -> list[Image]:
    """The testbed's own: what every device needs before anything of the product runs."""
    ours = paths.SOURCES / "images"
    programs = binaries.program("kube").parent
    return [
        Image("pause", ours / "pause.Dockerfile", Path("/bin")),
        Image("coredns", ours / "coredns.Dockerfile", programs),
    ]


def product_images() -> list[Image]:
    """The product's, the examples' and one for tests; those whose Dockerfile exists."""
    root = paths.CHECKOUT
    wanted = [
        Image("python", paths.SOURCES / "images" / "python.Dockerfile", root),
        Image("operator", root / "operator" / "Dockerfile", root),
        Image("agent", root / "agent" / "Dockerfile", root),
        Image("vision", root / "examples" / "vision" / "Dockerfile", root),
    ]
    for image in wanted:
        if not image.dockerfile.exists():
            say(f"  image {image.name} is left out: there is no {image.dockerfile.relative_to(root)}")
    return [image for image in wanted if image.dockerfile.exists()]


def build(images: list[Image]) -> list[Built]:
    """Builds those of `images` that are not in the cache, and notes all of them as this checkout's.

    Sources may change meanwhile, so the key is taken once, before the build.
    """
    archives = paths.cache() / "images" / "archives"
    wanted = [(image, archives / f"{image.name}-{image.key()}.tar") for image in images]
    absent = [(image, archive) for image, archive in wanted if not archive.exists()]
    log = paths.LOGS / "images.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if any("BASE" in image.dockerfile.read_text() for image, _ in absent):
        bases.build(log)
    for image, archive in absent:
        with step(f"image {image.name}"):
            _build(image, archive, log)
    paths.IMAGES.mkdir(parents=True, exist_ok=True)
    for image, archive in wanted:
        archive.touch()
        _note(image.name).write_text(f"{image.reference}\n{archive}\n")
    return built([image.name for image in images])


def built(names: list[str] | None = None) -> list[Built]:
    """The images that this checkout built last, all of them or those of `names`."""
    notes = [_note(name) for name in names] if names else sorted(paths.IMAGES.glob("*"))
    images = []
    for note in notes:
        if note.exists():
            reference, archive = note.read_text().splitlines()
            images.append(Built(note.name, reference, Path(archive)))
    return [image for image in images if image.archive.exists()]


def load(images: Sequence[Built], socket: Path) -> list[str]:
    """Loads those of `images` that the containerd at `socket` does not have; returns their names.

    An image that is replaced keeps a second name meanwhile. Else nothing would hold the layers that both share until
    the new one is unpacked, and containerd's collection of garbage, which may begin at any moment, would take them.
    """
    ctr = (*_CTR, "--address", socket, "--namespace", "k8s.io", "images")
    present = run(*ctr, "list").splitlines()
    loaded = []
    for image in images:
        label = f"{_LABEL}={image_id(image.archive)}"
        if any(line.startswith(f"{image.reference} ") and label in line for line in present):
            continue
        replaced = f"{image.reference}-replaced"
        is_replaced = any(line.startswith(f"{image.reference} ") for line in present)
        if is_replaced:
            run(*ctr, "tag", "--force", image.reference, replaced)
        run(*ctr, "import", image.archive)
        run(*ctr, "label", image.reference, label)
        if is_replaced:
            run(*ctr, "remove", "--sync", replaced)
        loaded.append(image.name)
    return loaded


def forget_all_but(images: Sequence[Built], socket: Path) -> None:
    """Removes every name from the containerd at `socket` that is not of `images`, and with it what nothing else needs.

    The kubelet's names are `sha256:` and the image's id.
    """
    kept = {image.reference for image in images} | {f"sha256:{image_id(image.archive)}" for image in images}
    ctr = (*_CTR, "--address", socket, "--namespace", "k8s.io", "images")
    if stale := [name for name in run(*ctr, "list", "--quiet").split() if name not in kept]:
        run(*ctr, "remove", "--sync", *stale)


def remove(names: Sequence[str], socket: Path) -> None:
    """Removes images by all of their names from the containerd at `socket`, with what nothing else needs."""
    run(*_CTR, "--address", socket, "--namespace", "k8s.io", "images", "remove", "--sync", *names)


def image_id(archive: Path) -> str:
    """The image's id: the digest of its configuration, which names all of its layers."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        if manifest is None:
            raise FleetError(f"{archive} holds no image: delete it")
        name: str = json.load(manifest)[0]["Config"]
    return name.removesuffix(".json")


def copied(dockerfile: str) -> Iterator[str]:
    """The paths that a Dockerfile copies from its context."""
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and words[0].upper() in {"COPY", "ADD"} and not any(w.startswith("--from=") for w in words):
            yield from (word for word in words[1:-1] if not word.startswith("--"))


def _note(name: str) -> Path:
    return paths.IMAGES / name


def _build(image: Image, archive: Path, log: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    base_arguments = [f"BASE={bases.RUNTIME.tag}", f"BUILDER={bases.BUILDER.tag}"]
    arguments = [word for value in base_arguments for word in ("--build-arg", value)]
    volumes = bases.pip_volumes()
    tag = ("--tag", image.reference, "--file", image.dockerfile)
    bases.buildah(
        "bud", "--isolation", "chroot", "--layers", "--pull-never", *arguments, *volumes, *tag, image.context, log=log
    )
    fresh = archive.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    bases.buildah("push", image.reference, f"docker-archive:{fresh}", log=log)
    fresh.rename(archive)
    older = sorted(archive.parent.glob(f"{image.name}-*.tar"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in older[_KEPT_ARCHIVES:]:
        file.unlink()


def _files(context: Path, source: str) -> Iterator[Path]:
    """The files that `source` (a path or a pattern) names, without what Python leaves beside sources."""
    for found in context.glob(source.removeprefix("./").rstrip("/")) if source != "." else [context]:
        for file in [found] if found.is_file() else found.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file
