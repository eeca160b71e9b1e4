"""What each field of an EdgeNode accepts and refuses."""

from typing import Final

from tests.api.values import (
    ABSOLUTE_PATH,
    BYTES,
    GENERATION,
    LABEL,
    SCORE,
    TIME,
    Field,
    conditions,
    factors,
    needed,
    number,
    ruled,
    several,
    text,
    under,
)

EDGE_NODE_FIELDS: Final[dict[str, Field]] = {
    "spec.thermal": ruled(
        Field(good=({}, {"throttleCelsius": 84}, {"criticalCelsius": 71})),
        {
            "throttleCelsius must be below criticalCelsius": (
                {"throttleCelsius": 85},
                {"criticalCelsius": 70},
                {"throttleCelsius": 90, "criticalCelsius": 80},
            )
        },
    ),
    "spec.thermal.throttleCelsius": number(1, 149),
    "spec.thermal.criticalCelsius": number(2, 150),
    "spec.slots": number(0, 1000),
    "spec.devices": several(lambda index: {"name": f"camera-{index}", "paths": ["/dev/video0"]}, 16),
    "spec.devices[].name": needed(LABEL),
    "spec.devices[].paths": needed(several(lambda index: f"/dev/video{index}", 16, unique=False, least=1)),
    "spec.devices[].paths[]": ABSOLUTE_PATH,
    "spec.devices[].count": number(1, 64),
    "spec.data": several(lambda index: {"name": f"photos-{index}", "path": "/srv/photos"}, 16),
    "spec.data[].name": needed(LABEL),
    "spec.data[].path": needed(ABSOLUTE_PATH),
    "status.observedGeneration": GENERATION,
    "status.score": SCORE,
    **under("status.factors", factors()),
    "status.metrics.cpuFreePercent": needed(number(0, 100)),
    "status.metrics.memoryAvailablePercent": needed(number(0, 100)),
    "status.metrics.memoryFreeBytes": needed(BYTES),
    "status.metrics.diskFreeBytes": BYTES,
    "status.metrics.celsius": number(-100, 250),
    "status.benchmark.eventsPerSecond": needed(number(0, 10_000_000)),
    "status.benchmark.measuredAt": needed(TIME),
    "status.spool.bytes": needed(BYTES),
    "status.spool.limitBytes": needed(BYTES),
    "status.losses": number(0, 1000),
    "status.avoidedUntil": TIME,
    "status.running": number(0, 10_000),
    "status.architecture": text("a" * 32, "", "arm64"),
    "status.agentVersion": text("1" * 64, "", "0.1.0"),
    "status.lastBeatTime": TIME,
    **conditions(),
}
