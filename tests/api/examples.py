"""Whole objects in which every field of the kinds occurs at least once, so that any one of them can be changed.

Fields that exclude each other are in different items of a list, or in different objects of the same kind.
"""

from copy import deepcopy
from typing import Any, Final

from edgewise.api import API_VERSION

TIME: Final = "2026-01-02T03:04:05Z"
DIGEST: Final = "0123456789abcdef" * 4
ENVIRONMENT: Final[dict[str, Any]] = {
    "env": [
        {"name": "LOG_LEVEL", "value": "info"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode", "optional": True}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "account", "key": "password", "optional": False}}},
    ],
    "envFrom": [
        {"prefix": "APP_", "configMapRef": {"name": "settings", "optional": True}},
        {"secretRef": {"name": "account", "optional": False}},
    ],
}
FACTORS: Final = {"load": 22.69, "performance": 1.4, "thermal": 1}
CONDITION: Final = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "lastTransitionTime": TIME,
    "reason": "Fresh",
    "message": "it takes work",
}


def _object(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "example"}, "spec": spec, "status": status}


NODE: Final = _object(
    "EdgeNode",
    {
        "maintenance": False,
        "thermal": {"throttleCelsius": 1, "criticalCelsius": 150},
        "slots": 4,
        "devices": [{"name": "camera", "paths": ["/dev/video0"], "count": 1}],
        "data": [{"name": "photos", "path": "/srv/photos"}],
    },
    {
        "observedGeneration": 1,
        "score": 31.76,
        "factors": FACTORS,
        "metrics": {
            "cpuFreePercent": 95,
            "memoryAvailablePercent": 80.5,
            "memoryFreeBytes": 2_000_000_000,
            "diskFreeBytes": 5_000_000_000,
            "celsius": 45.5,
        },
        "benchmark": {"eventsPerSecond": 12000.5, "measuredAt": TIME},
        "spool": {"bytes": 0, "limitBytes": 2_000_000_000},
        "losses": 2,
        "avoidedUntil": TIME,
        "running": 1,
        "architecture": "arm64",
        "agentVersion": "0.1.0",
        "lastBeatTime": TIME,
        "conditions": [CONDITION],
    },
)

APP: Final = _object(
    "EdgeApp",
    {
        "image": "edgewise.local/vision:dev",
        "imagePullPolicy": "IfNotPresent",
        "imagePullSecrets": [{"name": "registry"}],
        "source": {
            "configMap": {
                "name": "faces-code",
                "items": [{"key": "faces.py", "path": "faces.py", "mode": 0o444}],
                "optional": False,
                "defaultMode": 0o444,
            },
            "path": "/app",
        },
        "command": ["python3", "/app/faces.py"],
        "args": ["--min-size", "40"],
        **ENVIRONMENT,
        "files": [
            {
                "name": "settings",
                "mountPath": "/etc/settings",
                "configMap": {
                    "name": "settings",
                    "items": [{"key": "mode", "path": "mode", "mode": 0o400}],
                    "optional": True,
                    "defaultMode": 0o444,
                },
            },
            {
                "name": "account",
                "mountPath": "/etc/account",
                "secret": {
                    "secretName": "account",
                    "items": [{"key": "password", "path": "password", "mode": 0o400}],
                    "optional": True,
                    "defaultMode": 0o400,
                },
            },
        ],
        "inputs": [{"name": "photos", "mountPath": "/data"}],
        "outputs": {
            "path": "/outputs",
            "include": ["*.csv"],
            "maxFiles": 100_000,
            "minFiles": 1,
            "sizeLimit": "1Gi",
            "collect": "AtEnd",
        },
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "512Mi"}},
        "requires": {
            "architectures": ["amd64", "arm64"],
            "devices": [{"name": "camera", "count": 1}],
            "nodeSelector": {"zone": "west"},
        },
        "serviceAccountName": "vision",
        "tolerations": [
            {"key": "site", "operator": "Exists"},
            {"key": "site", "value": "roof"},
            {"key": "site", "effect": "NoSchedule"},
            {"key": "site", "effect": "NoExecute", "tolerationSeconds": 60},
        ],
        "runtimeClassName": "crun",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "supplementalGroups": [44],
            "readOnlyRootFilesystem": True,
            "seLinuxOptions": {"level": "s0:c123,c456"},
        },
    },
    {"observedGeneration": 1, "conditions": [CONDITION]},
)

BUNDLED_APP: Final = _object(
    "EdgeApp",
    {"image": "python:3.13-slim", "source": {"bundle": {"digest": f"sha256:{DIGEST}"}, "path": "/app"}},
    {"observedGeneration": 1},
)

JOB: Final = _object(
    "EdgeJob",
    {
        "appRef": {"name": "surveillance"},
        "args": ["--fast"],
        "extraArgs": ["--verbose"],
        **ENVIRONMENT,
        "placement": {
            "policy": "Score",
            "nodeSelector": {"zone": "west"},
            "affinity": [{"key": "zone", "operator": "In", "values": ["west"]}],
            "avoid": ["edge-3"],
            "evictWhenHot": False,
        },
        "retry": {
            "maxAttempts": 3,
            "backoffSeconds": 0,
            "maxBackoffSeconds": 86_400,
            "nonRetriableExitCodes": [2],
            "maxDisruptions": 10,
        },
        "disconnect": {"replaceAfterSeconds": 60},
        "activeDeadlineSeconds": 3600,
        "queueDeadlineSeconds": 3600,
        "retention": {"pods": "1h", "results": "7d"},
        "suspend": True,
        "cancel": False,
        "priority": 0,
        "completions": 1,
        "parallelism": 1,
    },
    {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "conditions": [CONDITION],
        "startTime": TIME,
        "completionTime": TIME,
        "node": "edge-1",
        "attempts": [
            {
                "number": 1,
                "node": "edge-1",
                "podName": "faces-3f2a1-1",
                "podUID": "7cb461c8-2c0a-49e1-a995-2eb636801bbd",
                "startedAt": TIME,
                "finishedAt": TIME,
                "outcome": "Succeeded",
                "exitCode": 0,
                "reason": "",
                "message": "",
            }
        ],
        "failures": 0,
        "disruptions": 0,
        "nextAttemptAt": TIME,
        "placement": {
            "policy": "Score",
            "score": 31.76,
            "factors": FACTORS,
            "expectedSeconds": 12,
            "candidates": [
                {
                    "node": "edge-1",
                    "score": 31.76,
                    "expectedSeconds": 12,
                    "factors": FACTORS,
                    "avoided": "it was lost 2 times of late",
                }
            ],
            "rejected": [{"node": "edge-2", "reason": "TooHot", "message": "91 °C, critical 85 °C"}],
            "message": "edge-1 scored best",
            "decidedAt": TIME,
        },
        "results": {
            "state": "Complete",
            "attempt": 1,
            "podUID": "7cb461c8-2c0a-49e1-a995-2eb636801bbd",
            "fileCount": 1,
            "bytes": 512,
            "sentBytes": 512,
            "skipped": 0,
            "refusedCount": 1,
            "files": [{"name": "faces.csv", "bytes": 512, "rows": 14, "sha256": DIGEST}],
            "refused": [{"name": "link.csv", "reason": "Symlink", "message": "a link is not followed"}],
            "url": "https://edgewise-gateway.edgewise-system.svc/v1/namespaces/demo/jobs/faces/files",
            "completedAt": TIME,
        },
    },
)


CRON_JOB: Final = _object(
    "EdgeCronJob",
    {
        "schedule": "30 2 * * 1-5",
        "timeZone": "Europe/Berlin",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "suspend": True,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": {"labels": {"team": "west"}, "annotations": {"example.org/note": "every night"}},
            "spec": JOB["spec"],
        },
    },
    {
        "observedGeneration": 1,
        "schedule": "30 2 * * 1-5 Europe/Berlin",
        "scheduleSince": TIME,
        "active": [
            {"name": "nightly-29455865", "uid": "7cb461c8-2c0a-49e1-a995-2eb636801bbd", "scheduledTime": TIME},
        ],
        "activeCount": 1,
        "lastScheduleTime": TIME,
        "lastSkippedTime": TIME,
        "lastSuccessfulTime": TIME,
        "nextScheduleTime": TIME,
        "runNow": {"token": "2026-01-02", "number": 1, "name": "nightly-now-abcdef"},
        "conditions": [CONDITION],
    },
)


STREAM: Final = _object(
    "EdgeStream",
    {
        "suspend": True,
        "runsHistoryLimit": 3,
        "jobTemplate": {
            "metadata": CRON_JOB["spec"]["jobTemplate"]["metadata"],
            "spec": {
                **{
                    name: JOB["spec"][name]
                    for name in ("appRef", "args", "extraArgs", "env", "envFrom", "disconnect", "retention", "priority")
                },
                "placement": {
                    name: JOB["spec"]["placement"][name] for name in ("policy", "nodeSelector", "affinity", "avoid")
                },
            },
        },
    },
    {
        "observedGeneration": 1,
        "phase": "Running",
        "run": "scan-7",
        "runNumber": 7,
        "device": "edge-1",
        "restarts": 5,
        "quickEnds": 1,
        "lastFileTime": TIME,
        "lagSeconds": 42,
        "nextRunAt": TIME,
        "conditions": [CONDITION],
    },
)


def named(example: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy of an example with this name."""
    return {**deepcopy(example), "metadata": {"name": name}}


EXAMPLES: Final = {
    "EdgeNode": (NODE,),
    "EdgeApp": (APP, BUNDLED_APP),
    "EdgeJob": (JOB,),
    "EdgeCronJob": (CRON_JOB,),
    "EdgeStream": (STREAM,),
}
"""By kind; the first has (nearly) every field."""
