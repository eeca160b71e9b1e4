"""What the agent tells Prometheus, gathered when it asks. This module owns the metrics' names; it keeps no figures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from edgewise_agent.beats import Beats
from edgewise_agent.uploader import Uploader
from edgewise_agent.volumes.csi import NodeService
from edgewise_agent.volumes.registration import RegistrationService
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import VolumeState


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The figures of one agent."""

    beats: Beats
    table: VolumeTable
    uploader: Uploader
    node: NodeService
    registration: RegistrationService

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format. Waits for the table's lock, so it runs in a thread."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now; `CollectorRegistry` calls this."""
        sent, last = self.beats.sent, self.beats.last
        yield CounterMetricFamily("edgewise_agent_beats", "Beats made", value=sent.sequence if sent else 0)
        yield CounterMetricFamily("edgewise_agent_beat_failures", "Beats without a good answer", self.beats.failures)
        if last is not None:
            yield GaugeMetricFamily("edgewise_agent_beat_age_seconds", "Since the last answer", last.age)
        if sent is not None:
            yield GaugeMetricFamily("edgewise_agent_cpu_free_percent", "As beaten", sent.metrics.cpu_free_percent)
            if sent.metrics.celsius is not None:
                yield GaugeMetricFamily("edgewise_agent_celsius", "Hottest thermal zone", sent.metrics.celsius)
            if sent.benchmark is not None:
                name = "edgewise_agent_benchmark_events_per_second"
                yield GaugeMetricFamily(name, "sysbench, one thread", sent.benchmark.events_per_second)
        usage = self.table.usage()
        yield GaugeMetricFamily("edgewise_agent_spool_bytes", "Results that wait to be sent", usage.bytes_)
        yield GaugeMetricFamily("edgewise_agent_spool_limit_bytes", "When no new volume is given", usage.limit_bytes)
        volumes = GaugeMetricFamily("edgewise_agent_volumes", "Output volumes by state", labels=["state"])
        counts = Counter(report.state for report in self.table.reports())
        for state in VolumeState:
            volumes.add_metric([state.value], counts[state])
        yield volumes
        yield CounterMetricFamily("edgewise_agent_sent_bytes", "Acknowledged by the gateway", self.uploader.sent_bytes)
        name = "edgewise_agent_sent_body_bytes"
        yield CounterMetricFamily(name, "The same, as compressed for the way", self.uploader.body_bytes)
        yield CounterMetricFamily("edgewise_agent_upload_errors", "Uploads that failed here", self.uploader.errors)
        yield CounterMetricFamily("edgewise_agent_csi_errors", "Calls of kubelet that failed here", self.node.errors)
        yield GaugeMetricFamily(
            "edgewise_agent_registered",
            "Whether kubelet accepted the plugin",
            int(self.registration.registered is True),
        )
