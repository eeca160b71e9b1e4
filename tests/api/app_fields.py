"""What each field of an EdgeApp accepts and refuses."""

from typing import Any, Final

from tests.api.examples import DIGEST
from tests.api.values import (
    ABSOLUTE_PATH,
    DATA_KEY,
    GENERATION,
    LABEL,
    LABEL_VALUE,
    OBJECT_NAME,
    OPTIONAL_OBJECT_NAME,
    QUANTITY,
    RELATIVE_PATH,
    Field,
    choice,
    conditions,
    environment,
    mapping,
    needed,
    node_selector,
    number,
    ruled,
    several,
    text,
    under,
)

FILE_MODE: Final = number(0, 0o777)
IDENTIFIER: Final = number(1, 2**31 - 1)
ARGUMENTS: Final = several(lambda index: "", 256, unique=False)
ARGUMENT: Final = text("a" * 8192, "", "--min-size", "two\nlines")

IMAGE: Final = text(
    "a" * 512,
    "a",
    "python",
    "python:3.13-slim",
    "ubuntu:22.04",
    "edgewise.local/vision:dev",
    "registry.example.org:5000/team/vision@sha256:" + DIGEST,
    "[fd00::1]:5000/vision:dev",
    bad=(
        *(":dev", "-vision", "vision:", "vision:dev:dev", "vision dev", "team/Vision", "https://example.org/vision"),
        *("vision@sha256:123", "vision@md5:" + DIGEST, "vision:" + "a" * 129),
    ),
    empty=False,
)


def keys_to_files(path: str, name: str) -> dict[str, Field]:
    """The files of a ConfigMap or Secret mounted at `path`; `name` is the field with its name."""
    return under(
        path,
        {
            name: needed(OBJECT_NAME),
            "items": several(lambda index: {"key": f"key-{index}", "path": f"file-{index}"}, 100, unique=False),
            "items[].key": needed(DATA_KEY),
            "items[].path": needed(RELATIVE_PATH),
            "items[].mode": FILE_MODE,
            "defaultMode": FILE_MODE,
        },
    )


def mounted(**paths: str) -> dict[str, Any]:
    """A whole spec whose source, outputs, files and inputs are mounted at these paths, where given."""
    return {
        "image": "python",
        **({"source": {"configMap": {"name": "code"}, "path": paths["source"]}} if "source" in paths else {}),
        **({"outputs": {"path": paths["outputs"]}} if "outputs" in paths else {}),
        **(
            {"files": [{"name": "a", "mountPath": paths["files"], "secret": {"secretName": "a"}}]}
            if "files" in paths
            else {}
        ),
        **({"inputs": [{"name": "a", "mountPath": paths["inputs"]}]} if "inputs" in paths else {}),
    }


MOUNTS: Final = ruled(
    Field(
        good=(
            {"image": "python"},
            mounted(source="/app", outputs="/outputs", files="/etc/files", inputs="/data"),
            mounted(source="/data/app", outputs="/data/outputs", files="/data/files", inputs="/data/in"),
            mounted(source="/data", outputs="/data-out", inputs="/data.in"),
        )
    ),
    {
        "source, outputs, files and inputs must be mounted at different paths": (
            mounted(source="/app", outputs="/app"),
            mounted(outputs="/outputs", files="/outputs/files"),
            mounted(files="/data/in/files", inputs="/data/in"),
            mounted(source="/data/app", inputs="/data"),
        )
    },
)

RESOURCES: Final = ruled(
    Field(
        good=(
            {},
            {"requests": {"cpu": "1", "example.org/npu": 1}},
            {"requests": {"cpu": "1000m"}, "limits": {"cpu": 1}},
            {"requests": {"memory": "1Gi"}, "limits": {"memory": "1074M", "cpu": "1m"}},
        )
    ),
    {
        "a request must not exceed the limit": (
            {"requests": {"cpu": "1001m"}, "limits": {"cpu": 1}},
            {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}},
        )
    },
)

OUTPUTS: Final = ruled(
    Field(good=({}, {"minFiles": 0}, {"minFiles": 1000}, {"maxFiles": 1})),
    {"minFiles must not exceed maxFiles": ({"minFiles": 1001}, {"minFiles": 2, "maxFiles": 1})},
)

# `pattern` and the bounds of amounts hold here too, but not every amount is a size.
SIZE_LIMIT: Final = ruled(
    Field(good=(1, "1Mi", "1Pi", "1" * 15, "0" * 31 + "1"), bad={**QUANTITY.bad, "minimum": (0, -1)}),
    {"sizeLimit must be more than 0 and at most 1Pi": (0, "0", "1025Ti", "1e30")},
)

TOLERATION: Final = ruled(
    Field(
        good=(
            {"operator": "Exists"},
            {"key": "site"},
            {"key": "site", "operator": "Equal", "value": "roof", "effect": "NoSchedule"},
            {"key": "site", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
        )
    ),
    {
        "an empty key needs the operator Exists": ({}, {"operator": "Equal"}, {"key": "", "value": "a"}),
        "the operator Exists takes no value": {"key": "site", "operator": "Exists", "value": "roof"},
        "tolerationSeconds needs the effect NoExecute": (
            {"key": "site", "tolerationSeconds": 1},
            {"key": "site", "effect": "NoSchedule", "tolerationSeconds": 1},
        ),
    },
)

EDGE_APP_FIELDS: Final[dict[str, Field]] = {
    "spec": needed(MOUNTS),
    "spec.image": needed(IMAGE),
    "spec.imagePullPolicy": choice("Always", "IfNotPresent", "Never"),
    "spec.imagePullSecrets": several(lambda index: {"name": f"registry-{index}"}, 16),
    "spec.imagePullSecrets[].name": needed(OBJECT_NAME),
    "spec.source": ruled(
        Field(good=({"configMap": {"name": "code"}}, {"bundle": {"digest": f"sha256:{DIGEST}"}})),
        {
            "give exactly one of configMap and bundle": (
                {},
                {"path": "/app"},
                {"configMap": {"name": "code"}, "bundle": {"digest": f"sha256:{DIGEST}"}},
            )
        },
    ),
    "spec.source.path": ABSOLUTE_PATH,
    **keys_to_files("spec.source.configMap", "name"),
    "spec.source.bundle.digest": needed(
        text(f"sha256:{DIGEST}", bad=("", DIGEST, f"md5:{DIGEST}", f"sha256:{DIGEST.upper()}", "sha256:123"))
    ),
    "spec.command": ARGUMENTS,
    "spec.command[]": ARGUMENT,
    "spec.args": ARGUMENTS,
    "spec.args[]": ARGUMENT,
    **under("spec", environment()),
    "spec.files": several(
        lambda index: {"name": f"a{index}", "mountPath": f"/etc/{index}", "secret": {"secretName": "a"}}, 16
    ),
    "spec.files[]": ruled(
        Field(good=({"name": "a", "mountPath": "/etc/a", "configMap": {"name": "a"}},)),
        {
            "give exactly one of configMap and secret": (
                {"name": "a", "mountPath": "/etc/a"},
                {"name": "a", "mountPath": "/etc/a", "configMap": {"name": "a"}, "secret": {"secretName": "a"}},
            )
        },
    ),
    "spec.files[].name": needed(LABEL),
    "spec.files[].mountPath": needed(ABSOLUTE_PATH),
    **keys_to_files("spec.files[].configMap", "name"),
    **keys_to_files("spec.files[].secret", "secretName"),
    "spec.inputs": several(lambda index: {"name": f"photos-{index}", "mountPath": f"/data/{index}"}, 16),
    "spec.inputs[].name": needed(LABEL),
    "spec.inputs[].mountPath": needed(ABSOLUTE_PATH),
    "spec.outputs": OUTPUTS,
    "spec.outputs.path": ABSOLUTE_PATH,
    "spec.outputs.include": several(lambda index: f"{index}.csv", 64, unique=False, least=1),
    "spec.outputs.include[]": text("a" * 256, "*", "*.csv", "run-?/[a-z]*.csv", bad=("/*.csv", "a\nb"), empty=False),
    "spec.outputs.maxFiles": number(1, 100_000),
    "spec.outputs.minFiles": number(0, 100_000),
    "spec.outputs.sizeLimit": SIZE_LIMIT,
    "spec.outputs.collect": choice("AtEnd", "OnClose"),
    "spec.resources": RESOURCES,
    "spec.resources.requests": mapping(lambda index: index, 16),
    "spec.resources.requests{}": QUANTITY,
    "spec.resources.limits": mapping(lambda index: f"{index}Mi", 16),
    "spec.resources.limits{}": QUANTITY,
    "spec.requires.architectures": several(lambda index: f"arm{index}", 16),
    "spec.requires.architectures[]": text(
        "a" * 32, "i", "amd64", "riscv64", bad=("AMD64", "arm/v7", "x86-64"), empty=False
    ),
    "spec.requires.devices": several(lambda index: {"name": f"camera-{index}"}, 16),
    "spec.requires.devices[].name": needed(LABEL),
    "spec.requires.devices[].count": number(1, 64),
    "spec.requires.nodeSelector": node_selector(),
    "spec.requires.nodeSelector{}": LABEL_VALUE,
    "spec.serviceAccountName": OPTIONAL_OBJECT_NAME,
    "spec.tolerations": several(lambda index: {"key": f"site-{index}"}, 32, unique=False),
    "spec.tolerations[]": TOLERATION,
    "spec.tolerations[].key": text("a/" + "b" * 315, "site", "example.org/site", bad=("-a", "a/b/c", "a b")),
    "spec.tolerations[].operator": choice("Equal", "Exists"),
    "spec.tolerations[].value": LABEL_VALUE,
    "spec.tolerations[].effect": choice("NoExecute", "NoSchedule", "PreferNoSchedule"),
    "spec.tolerations[].tolerationSeconds": number(0, 2**31 - 1),
    "spec.runtimeClassName": OPTIONAL_OBJECT_NAME,
    "spec.terminationGracePeriodSeconds": number(0, 86_400),
    "spec.securityContext.runAsUser": IDENTIFIER,
    "spec.securityContext.runAsGroup": IDENTIFIER,
    "spec.securityContext.fsGroup": IDENTIFIER,
    "spec.securityContext.supplementalGroups": several(lambda index: index + 1, 32),
    "spec.securityContext.supplementalGroups[]": IDENTIFIER,
    "spec.securityContext.seLinuxOptions.level": text("s" * 256, "", "s0", "s0:c123,c456", bad=("s0 ", "s0/c1")),
    "status.observedGeneration": GENERATION,
    **conditions(),
}
