"""The rules of names, and those that a plan must meet before a byte of it is taken. Pure: out comes the broken rule."""

import hashlib
import re

from edgewise_agent.wire import PlannedFile, UploadPlan

MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
_EMPTY = hashlib.sha256(b"").hexdigest()
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def is_object_name(name: str) -> bool:
    """Whether Kubernetes could have given an object that name; such a name is safe in a path, too."""
    return _OBJECT_NAME.fullmatch(name) is not None


def name_fault(name: str) -> str | None:
    """What is wrong with a file's name, as the end of a sentence that begins with the name; None if nothing is."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if not name or name.startswith("/"):
        return "is not a relative path"
    if len(encoded) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "has an empty part, '.' or '..'"
        if len(part.encode()) > MAX_PART_BYTES:
            return f"has a part of more than {MAX_PART_BYTES} bytes"
    if _CONTROL.search(name):
        return "has a control character"
    return None


def plan_fault(plan: UploadPlan) -> str | None:
    """The first rule that `plan` breaks, as a sentence; None if it may be taken.

    Beyond the names: among the files, and among the logs, each is there once and none is also the folder of another.
    The same content has the same size everywhere, and only the empty content has size 0.
    """
    if not is_object_name(plan.namespace) or not is_object_name(plan.job):
        return f"{plan.namespace!r}/{plan.job!r} can't be the name of an EdgeJob."
    if plan.logs_only and (plan.files or plan.refused_count or plan.ahead):
        return "It is of a pod without output volume, and yet it has files."
    sizes: dict[str, int] = {}
    return _listed_fault("file", plan.files, sizes) or _listed_fault("log", plan.logs, sizes)


def _listed_fault(what: str, files: tuple[PlannedFile, ...], sizes: dict[str, int]) -> str | None:
    names: set[str] = set()
    for file in files:
        if fault := name_fault(file.name) or _content_fault(file, sizes.setdefault(file.sha256, file.bytes_)):
            return f"The {what} {file.name!r} {fault}."
        if file.name in names:
            return f"The {what} {file.name!r} is in the plan twice."
        names.add(file.name)
    for name in names:
        folder = name
        while folder := folder.rpartition("/")[0]:
            if folder in names:
                return f"The {what} {folder!r} is also the folder of {name!r}."
    return None


def _content_fault(file: PlannedFile, known_bytes: int) -> str | None:
    if file.bytes_ != known_bytes:
        return f"has {file.bytes_} bytes, but another file with the same SHA-256 has {known_bytes}"
    if (file.bytes_ == 0) != (file.sha256 == _EMPTY):
        return f"has {file.bytes_} bytes, which its SHA-256 {file.sha256} rules out"
    return None
