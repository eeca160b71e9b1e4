"""Builds the Go programs that no package registry carries, into the cache.

The cache's key is a hash of the module's files and the flags, so a second
checkout of the same sources finds the programs built. An unfinished build
leaves nothing behind under its key.
"""

import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed import paths, toolchain
from testbed.commands import run
from testbed.errors import FleetError
from testbed.progress import step

_SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")


@dataclass(frozen=True, slots=True)
class Target:
    """A program, the module and the package that it is built from, and how long that takes at first."""

    program: str
    module: str
    package: str
    minutes: int
    links: tuple[str, ...] = ()


TARGETS = (
    Target("kube", "kubernetes", "./cmd/kube", 9, _SERVERS),
    Target("coredns", "kubernetes", "./cmd/coredns", 1),
    Target("helm", "kubernetes", "helm.sh/helm/v3/cmd/helm", 1),
    Target("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 2),
)


def build() -> Path:
    """Builds what is missing and returns the folder with all programs."""
    folder = paths.cache() / "bin" / _key()
    for target in TARGETS:
        if (folder / target.program).exists():
            continue
        with step(f"build {target.program} (about {target.minutes} min the first time)"):
            _compile(target, folder)
    return folder


def program(name: str) -> Path:
    """A built program.

    Raises:
        FleetError: it is not built.
    """
    wanted = paths.cache() / "bin" / _key() / name
    if not wanted.exists():
        raise FleetError(f"{name} is not built: run `make up` or `fleet build`")
    return wanted


def built(module: Path) -> Path:
    """The program of the Go module in that folder, from the cache or built now. It has the folder's name.

    Raises:
        FleetError: it does not build.
    """
    program = paths.cache() / "bin" / _digest(module, module.glob("**/*")).hexdigest()[:16] / module.name
    if not program.exists():
        with step(f"build {module.name}"):
            _go_build(module, ".", program, "-s -w")
    return program


def kubernetes_version() -> str:
    """The version in the module's go.mod, such as v1.35.4."""
    return _required("kubernetes", "k8s.io/kubernetes")


def _compile(target: Target, folder: Path) -> None:
    _go_build(paths.SOURCES / target.module, target.package, folder / target.program, _linker_flags(target))
    for link in target.links:
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(target.program)


def _go_build(source: Path, package: str, program: Path, linker_flags: str) -> None:
    """Builds one program with the Go that its module asks for; it is there whole, or not at all."""
    log = paths.LOGS / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    needed = re.search(r"^go (\S+)$", (source / "go.mod").read_text(), re.MULTILINE)
    if needed is None:
        raise FleetError(f"{source / 'go.mod'} names no Go version")
    go = toolchain.go(toolchain.parse_version(needed[1]), log)
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_name(f".{program.name}")
    flags: list[str | Path] = ["-trimpath", "-ldflags", linker_flags, "-o", fresh]
    run(go, "build", *flags, package, cwd=source, log=log, environment={"CGO_ENABLED": "0"})
    fresh.rename(program)


def _linker_flags(target: Target) -> str:
    flags = "-s -w"
    if target.program == "kube":
        version = kubernetes_version()
        major, minor, _ = version.removeprefix("v").split(".")
        where = "k8s.io/component-base/version"
        flags += f" -X {where}.gitVersion={version} -X {where}.gitMajor={major} -X {where}.gitMinor={minor}"
    return flags


def _key() -> str:
    digest = _digest(paths.SOURCES, paths.SOURCES.glob("k*/**/*"))
    for target in TARGETS:
        digest.update(f"{target.program} {target.package} {target.links}".encode())
    return digest.hexdigest()[:16]


def _digest(root: Path, files: Iterable[Path]) -> "hashlib._Hash":
    """A hash of the files among them that a Go program is built from, with their names below `root`."""
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.name in {"go.mod", "go.sum"} or file.suffix == ".go":
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest


def _required(module: str, package: str) -> str:
    text = (paths.SOURCES / module / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(package)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise FleetError(f"testbed/{module}/go.mod does not require {package}")
    return found[1]


def link_programs(folder: Path) -> None:
    """Makes .testbed/bin: kubectl and helm reach this fleet unless KUBECONFIG says otherwise."""
    paths.BIN.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm"):
        _script(name, f'export KUBECONFIG="${{KUBECONFIG:-{paths.KUBECONFIG}}}"\nexec {folder / name} "$@"\n')
    _script("fleet", f'export PYTHONPATH={paths.CHECKOUT}\nexec {sys.executable} -m testbed "$@"\n')
    kwok = paths.BIN / "kwok"
    kwok.unlink(missing_ok=True)
    kwok.symlink_to(folder / "kwok")


def _script(name: str, body: str) -> None:
    fresh = paths.BIN / f".{name}.new"
    fresh.write_text("#!/bin/sh\n" + body)
    fresh.chmod(0o755)
    fresh.rename(paths.BIN / name)
