"""What each field of an EdgeJob accepts and refuses."""

from typing import Any, Final

from tests.api.app_fields import ARGUMENT, ARGUMENTS
from tests.api.examples import DIGEST
from tests.api.values import (
    BYTES,
    COUNT,
    GENERATION,
    LABEL_KEY,
    LABEL_VALUE,
    MESSAGE,
    OBJECT_NAME,
    OPTIONAL_OBJECT_NAME,
    REASON,
    SCORE,
    TIME,
    Field,
    choice,
    conditions,
    environment,
    factors,
    needed,
    node_selector,
    number,
    ruled,
    several,
    text,
    under,
)

SECONDS: Final = number(1, 31_536_000)

KEPT_FOR: Final = Field(
    good=("1s", "0s", "90s", "1h30m", "7d", "99999d99999h99999m99999s", "Forever"),
    bad={
        "minLength": ("", "1"),
        "maxLength": "99999d99999h99999m099999s",
        "pattern": ("forever", "Forever1", "1h1d", "1.5h", "1 h", "-1h", "123456s", "ever"),
    },
)

REPLACE_AFTER: Final = Field(
    good=(1, 31_536_000, "Never"),
    bad={"minimum": 0, "maximum": 31_536_001, "pattern": ("", "never", "60", "1h"), "maxLength": "Never!"},
)


def requirement(operator: str, *values: str) -> dict[str, Any]:
    """What a label of the device must be."""
    return {"key": "zone", "operator": operator, **({"values": list(values)} if values else {})}


REQUIREMENT: Final = ruled(
    Field(
        good=(
            requirement("In", "west", "east"),
            requirement("NotIn", ""),
            requirement("Exists"),
            {"key": "zone", "operator": "DoesNotExist", "values": []},
            requirement("Gt", "3"),
            requirement("Lt", "-3"),
        )
    ),
    {
        "In and NotIn need at least one value": (
            requirement("In"),
            {"key": "zone", "operator": "NotIn", "values": []},
        ),
        "Exists and DoesNotExist take no values": (requirement("Exists", "a"), requirement("DoesNotExist", "a")),
        "Gt and Lt take exactly one value": (
            requirement("Gt"),
            requirement("Gt", "1", "2"),
            requirement("Lt", "one"),
            requirement("Lt", ""),
        ),
    },
)

VALUES: Final = Field(
    good=(["west"], [f"v{index}" for index in range(64)]), bad={"maxItems": [f"v{index}" for index in range(65)]}
)

RETRY: Final = ruled(
    Field(good=({}, {"backoffSeconds": 300}, {"maxBackoffSeconds": 10})),
    {
        "backoffSeconds must not exceed maxBackoffSeconds": (
            {"backoffSeconds": 301},
            {"maxBackoffSeconds": 9},
            {"backoffSeconds": 2, "maxBackoffSeconds": 1},
        )
    },
)

APP: Final = {"appRef": {"name": "surveillance"}, "suspend": True}
EVERY: Final[dict[str, Any]] = {"everyDevice": {}}

SPEC: Final = ruled(
    Field(
        good=(
            APP,
            {**APP, "placement": EVERY},
            {**APP, "placement": {**EVERY, "nodeName": "", "avoid": ["edge-1"]}},
            {**APP, "completions": 1000, "parallelism": 10, "maxFailedIndexes": 3},
            {**APP, "completions": 2, "index": 1},
        )
    ),
    {
        "placement.everyDevice makes one run for each device": tuple(
            {**APP, "placement": EVERY, name: value}
            for name, value in {"completions": 2, "parallelism": 1, "maxFailedIndexes": 0, "index": 0}.items()
        ),
        "index counts from 0, so it must be less than completions": (
            {**APP, "index": 1},
            {**APP, "completions": 10, "index": 10},
        ),
    },
)

PLACEMENT: Final = ruled(
    Field(good=({}, {"nodeName": "edge-1"}, {"maxPerDevice": 1})),
    {"everyDevice is one run on each device": ({**EVERY, "nodeName": "edge-1"}, {**EVERY, "maxPerDevice": 1})},
)

MAX_CONCURRENT: Final = Field(
    good=(1, 9999, "1", "9999", "1%", "99%", "100%"),
    bad={"minimum": 0, "maximum": 10_000, "pattern": ("", "0", "0%", "101%", "5.5%", "all"), "maxLength": "10000"},
)

INDEXES: Final = text("0-999," * 341 + "77", "", "0", "0-5,7,9-11", bad=("-", "0-", "1,,2", "1000", "a", " 1"))

POD_UID: Final = text("a" * 64, "7cb461c8-2c0a-49e1-a995-2eb636801bbd", bad=("a b", "a_b"))

EDGE_JOB_FIELDS: Final[dict[str, Field]] = {
    "spec": needed(SPEC),
    "spec.appRef": needed(Field(good=({"name": "a"},))),
    "spec.appRef.name": needed(text("a" * 52, "a", "v1.faces", bad=("", "-a", "A", "a..b", "a/b"))),
    "spec.args": ARGUMENTS,
    "spec.args[]": ARGUMENT,
    "spec.extraArgs": ARGUMENTS,
    "spec.extraArgs[]": ARGUMENT,
    **under("spec", environment()),
    "spec.placement": PLACEMENT,
    "spec.placement.policy": text("A" * 63, "", "Score", bad=("score", "Least loaded")),
    "spec.placement.nodeSelector": node_selector(),
    "spec.placement.nodeSelector{}": LABEL_VALUE,
    "spec.placement.affinity": several(lambda index: requirement("Exists"), 32, unique=False),
    "spec.placement.affinity[]": REQUIREMENT,
    "spec.placement.affinity[].key": needed(LABEL_KEY),
    "spec.placement.affinity[].operator": needed(choice("In", "NotIn")),
    "spec.placement.affinity[].values": VALUES,
    "spec.placement.affinity[].values[]": text("a" * 63, "", "west", "-3", bad=("a ", "a/b", "-a-", "--1")),
    "spec.placement.avoid": several(lambda index: f"edge-{index}", 100),
    "spec.placement.avoid[]": OBJECT_NAME,
    "spec.placement.nodeName": OPTIONAL_OBJECT_NAME,
    "spec.placement.maxPerDevice": number(1, 1000),
    "spec.placement.everyDevice.maxConcurrent": MAX_CONCURRENT,
    "spec.placement.everyDevice.abortFailurePercent": number(0, 100),
    "spec.retry": RETRY,
    "spec.retry.maxAttempts": number(1, 100),
    "spec.retry.backoffSeconds": number(0, 86_400),
    "spec.retry.maxBackoffSeconds": number(0, 86_400),
    "spec.retry.nonRetriableExitCodes": several(lambda index: index + 1, 255),
    "spec.retry.nonRetriableExitCodes[]": number(1, 255),
    "spec.retry.maxDisruptions": number(0, 100),
    "spec.disconnect.replaceAfterSeconds": REPLACE_AFTER,
    "spec.activeDeadlineSeconds": SECONDS,
    "spec.queueDeadlineSeconds": SECONDS,
    "spec.retention.pods": KEPT_FOR,
    "spec.retention.results": KEPT_FOR,
    "spec.priority": number(-1000, 1000),
    "spec.completions": number(1, 1000),
    "spec.parallelism": number(1, 1000),
    "spec.maxFailedIndexes": number(0, 1000),
    "spec.index": number(0, 999),
    "status.observedGeneration": GENERATION,
    "status.phase": choice(
        *("Pending", "Bound", "Running", "Collecting", "Succeeded", "Failed", "Suspended", "Cancelled")
    ),
    **conditions(),
    "status.startTime": TIME,
    "status.completionTime": TIME,
    "status.nextAttemptAt": TIME,
    "status.node": OPTIONAL_OBJECT_NAME,
    "status.failures": COUNT,
    "status.disruptions": COUNT,
    "status.attempts": several(lambda index: {"number": index + 1, "node": "edge-1", "podName": "faces"}, 100),
    "status.attempts[].number": needed(number(1, 100_000)),
    "status.attempts[].node": needed(OBJECT_NAME),
    "status.attempts[].podName": needed(OBJECT_NAME),
    "status.attempts[].podUID": POD_UID,
    "status.attempts[].startedAt": TIME,
    "status.attempts[].finishedAt": TIME,
    "status.attempts[].outcome": choice(
        *("Starting", "Running", "Succeeded", "Failed", "Disrupted", "Lost", "Superseded", "Cancelled")
    ),
    "status.attempts[].exitCode": number(-1, 255),
    "status.attempts[].reason": REASON,
    "status.attempts[].message": MESSAGE,
    "status.placement.policy": text("A" * 63, "", "Score"),
    "status.placement.score": SCORE,
    "status.placement.expectedSeconds": number(0, 31_536_000),
    **under("status.placement.factors", factors()),
    "status.placement.candidates": several(lambda index: {"node": f"edge-{index}", "score": index}, 20),
    "status.placement.candidates[].node": needed(OBJECT_NAME),
    "status.placement.candidates[].score": needed(SCORE),
    "status.placement.candidates[].expectedSeconds": number(0, 31_536_000),
    "status.placement.candidates[].avoided": MESSAGE,
    **under("status.placement.candidates[].factors", factors()),
    "status.placement.rejected": several(lambda index: {"node": f"edge-{index}", "reason": "Full"}, 20),
    "status.placement.rejected[].node": needed(OBJECT_NAME),
    "status.placement.rejected[].reason": needed(REASON),
    "status.placement.rejected[].message": MESSAGE,
    "status.placement.message": MESSAGE,
    "status.placement.decidedAt": TIME,
    "status.results.state": choice("Pending", "Uploading", "Complete", "Partial"),
    "status.results.attempt": number(1, 100_000),
    "status.results.podUID": POD_UID,
    "status.results.fileCount": COUNT,
    "status.results.bytes": BYTES,
    "status.results.sentBytes": BYTES,
    "status.results.skipped": COUNT,
    "status.results.refusedCount": COUNT,
    "status.results.files": several(lambda index: {"name": f"{index}.csv", "bytes": 1, "sha256": DIGEST}, 100),
    "status.results.files[].name": needed(text("a" * 1024, "a", "a.csv", "day 1/räume.csv", empty=False)),
    "status.results.files[].bytes": needed(BYTES),
    "status.results.files[].rows": BYTES,
    "status.results.files[].sha256": needed(text(DIGEST, bad=("", DIGEST[1:], DIGEST.upper(), "x" * 64))),
    "status.results.refused": several(lambda index: {"name": f"{index}.csv", "reason": "Symlink"}, 20),
    "status.results.refused[].name": needed(text("a" * 1024, "", "../a.csv")),
    "status.results.refused[].reason": needed(REASON),
    "status.results.refused[].message": MESSAGE,
    "status.results.url": text("https://" + "a" * 1016, "", "https://gateway/v1"),
    "status.results.completedAt": TIME,
    "status.runs.total": COUNT,
    "status.runs.progress": text("1" * 32, "", "12/100"),
    "status.runs.active": COUNT,
    "status.runs.queued": COUNT,
    "status.runs.succeeded": COUNT,
    "status.runs.failed": COUNT,
    "status.runs.succeededIndexes": INDEXES,
    "status.runs.failedIndexes": INDEXES,
    "status.runs.failedDevices": several(lambda index: f"edge-{index}", 20),
    "status.runs.failedDevices[]": OBJECT_NAME,
    "status.runs.countedAt": TIME,
}
