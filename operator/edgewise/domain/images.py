"""Names of images, made comparable: an app's as its author wrote it, a Node's as its container runtime lists it."""

from functools import lru_cache
from typing import Final

REGISTRY: Final = "docker.io"
"""Where container runtimes look for an image that names no registry."""


@lru_cache(maxsize=1024)  # the same few for every device and job
def full_name(image: str) -> str:
    """The name with registry, repository, and digest or tag, as `docker.io/library/python:3.13`.

    Without both it means the tag `latest`; with both the digest decides, as it does for container runtimes.
    """
    name, _, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if not slash:
        name = f"{REGISTRY}/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"{REGISTRY}/{first}/{rest}"
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # a colon before a slash is a registry's port
        repository, tag = name, "latest"
    return f"{repository}@{digest}" if digest else f"{repository}:{tag}"
