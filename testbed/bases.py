"""The images that the Dockerfiles' BASE and BUILDER stand for here: Debian with Python, made by mmdebstrap.

No image registry is needed. The builder has pip on top; pip runs in the build
as it does on the host (same certificates, same configuration) and keeps what it
downloads in the cache.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from testbed import paths
from testbed.commands import run
from testbed.progress import step

SUITE = "bookworm"
_COMMON = ("python3", "ca-certificates", "sysbench", "busybox-static")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_CERTIFICATES = Path("/etc/ssl/certs")


@dataclass(frozen=True, slots=True)
class Base:
    """An image of Debian packages."""

    name: str
    packages: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The image's name, with the hash of what it is made from."""
        made_from = f"{SUITE} {self.packages} {_LEFT_OUT}"
        return f"localhost/{self.name}:{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"


RUNTIME = Base("edgewise-base", _COMMON)
BUILDER = Base("edgewise-builder", (*_COMMON, "python3-pip"))


def buildah(*arguments: str | Path, log: Path | None = None) -> str:
    """Runs buildah on the cache's own storage; STORAGE_DRIVER=vfs is for a cache on a disk without overlays."""
    storage = paths.cache() / "images"
    driver = os.environ.get("STORAGE_DRIVER", "overlay")
    roots = ("--root", storage / "storage", "--runroot", storage / "run", "--storage-driver", driver)
    return run("buildah", *roots, *arguments, log=log)


def build(log: Path) -> None:
    """Builds the two bases unless they are in the storage."""
    for base in (RUNTIME, BUILDER):
        if has_image(base.tag):
            continue
        with step(f"image {base.name} (about 45 s the first time)"):
            folder = paths.cache() / "images" / base.name
            folder.mkdir(parents=True, exist_ok=True)
            excludes = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
            packages = f"--include={','.join(base.packages)}"
            run("mmdebstrap", "--variant=minbase", packages, *excludes, SUITE, folder / "root.tar", log=log)
            (folder / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
            buildah("bud", "--isolation", "chroot", "--tag", base.tag, folder, log=log)
            (folder / "root.tar").unlink()


def has_image(tag: str) -> bool:
    """Whether the storage holds image `tag`."""
    return bool(buildah("images", "--noheading", "--quiet", "--filter", f"reference={tag}").strip())


def pip_volumes() -> list[str]:
    """Arguments of `buildah bud` that let pip in the build reach the registry as pip does on the host."""
    folder = paths.cache() / "pip"
    folder.mkdir(parents=True, exist_ok=True)
    volumes = [f"{folder}:/root/.cache/pip"]
    if _CERTIFICATES.is_dir():
        volumes.append(f"{_CERTIFICATES}:{_CERTIFICATES}:ro")
    volumes.append(f"{_pip_configuration()}:/etc/pip.conf:ro")
    return [argument for volume in volumes for argument in ("--volume", volume)]


def _pip_configuration() -> Path:
    """The host's pip settings as a file: its configuration and, after that, its PIP_ variables."""
    wanted = ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "CERT", "PROXY", "DEFAULT_TIMEOUT")
    names = {name: name.removeprefix("DEFAULT_").lower().replace("_", "-") for name in wanted}
    settings = [f"{names[name]} = {os.environ['PIP_' + name]}" for name in wanted if f"PIP_{name}" in os.environ]
    system = Path("/etc/pip.conf")
    kept = system.read_text() if system.exists() and not settings else ""
    file = paths.cache() / "pip.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(kept or "\n".join(["[global]", *settings]) + "\n")
    return file
