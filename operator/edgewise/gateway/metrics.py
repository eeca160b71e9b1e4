"""The gateway's figures for Prometheus. Owns their names; counts nothing itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One set of figures, registered with a registry of its own so that two gateways can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "edgewise_gateway_requests",
            "Requests answered, by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "edgewise_gateway_request_seconds",
            "How long requests took until their answer was sent.",
            ["route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300),
            registry=self.registry,
        )
        self.received_bytes = Counter(
            "edgewise_gateway_received_bytes", "Bytes of results taken in.", registry=self.registry
        )
        self.sent_bytes = Counter("edgewise_gateway_sent_bytes", "Bytes of results given out.", registry=self.registry)
        self.manifests = Counter(
            "edgewise_gateway_completions", "Completed uploads, repetitions included.", registry=self.registry
        )
        self.verdicts = Counter(
            "edgewise_gateway_verdicts",
            "The operator's answers to manifests, by verdict, and 'Failed' where there was none.",
            ["verdict"],
            registry=self.registry,
        )
        self.pending = Gauge(
            "edgewise_gateway_pending_manifests", "Manifests without a final verdict.", registry=self.registry
        )
        self.free_bytes = Gauge(
            "edgewise_gateway_volume_free_bytes", "Room left on the results volume.", registry=self.registry
        )
