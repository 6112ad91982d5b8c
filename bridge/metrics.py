"""What an operator sees: counters, gauges and histograms of one process, in Prometheus' text format.

One `Metrics` is made by the composition root and handed around. Inside are plain numbers: an update is a dict store, no
lock, no label object; families are built only when somebody scrapes. All updates happen on the loop's thread.

Names and labels (all start with `callbridge_`; histograms have `_bucket`, `_sum`, `_count`):

| name | labels | what |
|---|---|---|
| `callbridge_info` | instance, version | always 1 |
| `callbridge_legs`, `callbridge_legs_limit` | | legs now; `service.max_legs` |
| `callbridge_calls_running` | | calls now |
| `callbridge_draining` | | 1: new calls are refused because the process is to end |
| `callbridge_calls_total` | ingress, reason | ended calls by how they ended |
| `callbridge_calls_refused_total` | ingress, reason | calls not admitted |
| `callbridge_tick_seconds` | | how long one tick of the media plane took |
| `callbridge_tick_lateness_seconds` | | how late a tick began |
| `callbridge_packets_total` | kind | received, lost, late, duplicate, malformed, foreign |
| `callbridge_audio_seconds_total` | fate | received sent replayed padded concealed absent unsent lost withheld_* |
| `callbridge_gate_changes_total` | state | open, or the cause for which it closed |
| `callbridge_sessions` | provider | provider connections now |
| `callbridge_sessions_opened_total`, `callbridge_keepalives_total` | provider | opened; sent |
| `callbridge_stt_lost_total` | provider, reason_class | sessions lost |
| `callbridge_stt_connect_seconds` | provider | from dialling to an open session |
| `callbridge_finals_total` | provider | final results |
| `callbridge_turn_latency_seconds` | | end of speech to the turn's last final |
| `callbridge_events_total` | type | events accepted |
| `callbridge_interims_dropped_total` | | interims conflated or dropped under pressure |
| `callbridge_events_lost_total` | | events for which there was room neither on disk nor in memory |
| `callbridge_sink_up`, `callbridge_spool_up` | | 1: Redis takes events; the spool does |
| `callbridge_group_lag_events` | group | entries that a consumer group has not been given yet |
| `callbridge_outbox_queued`, `callbridge_outbox_spool_bytes`, `callbridge_outbox_oldest_seconds` | | what waits |
| `callbridge_redis_errors_total` | kind | failed writes |
| `callbridge_redis_write_seconds` | | one batch, sent to confirmed |
| `callbridge_sip_requests_total`, `callbridge_sip_responses_total` | method; method, status | SIP in and out |
| `callbridge_sip_dropped_total` | reason | SIP messages that were not answered |
| `callbridge_sip_unresolved_total` | | host names of peers that no address was found for |
| `callbridge_sip_dialogs`, `callbridge_sip_transactions` | | SIP state now, lingering transactions too |
| `callbridge_rtp_ports`, `callbridge_tasks` | | pairs of media ports handed out; tasks of the event loop |
| `callbridge_http_requests_total` | method, route, status | HTTP by route, never by id |
| `callbridge_sse_subscribers`, `callbridge_sse_dropped_total` | | event streams open; events they were too slow for |
| `callbridge_whip_sessions`, `callbridge_whip_ended_total` | ; reason | WebRTC |
| `callbridge_process_*` | | CPU, memory, descriptors |
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

MAX_SERIES = 500
"""Label sets of one family. What comes after is counted under `other`: a peer must not grow our memory by inventing
methods or header values."""

TICK_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1)  # s; a tick is 20 ms
WAIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # s; network round trips and provider latency


class Counter:
    """A sum that only grows. `add` takes the label values in the order of the family's labels."""

    def __init__(self, name: str, help_: str, *labels: str) -> None:
        self.name, self.help, self.labels = name, help_, labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._sources: list[Callable[[], Mapping[tuple[str, ...], float]]] = []

    def read_from(self, source: Callable[[], float]) -> None:
        """`source` is asked at each scrape, on the loop's thread, for what its owner counts anyway; for families
        without labels."""
        self._sources.append(lambda: {(): source()})

    def read_each_from(self, source: Callable[[], Mapping[str, float]]) -> None:
        """The same for a family with one label: label value to number."""
        self._sources.append(lambda: {(label,): value for label, value in source().items()})

    def add(self, n: float = 1.0, *labels: str) -> None:
        """Batches welcome: one `add(37, "received")` a tick is as good as 37 calls."""
        values = self._values
        if labels in values:
            values[labels] += n
        else:
            self._values[self._admit(labels)] = self.value(*self._admit(labels)) + n

    def add_all(self, amounts: Mapping[str, float]) -> None:
        """For families with one label: several label values at once."""
        for label, n in amounts.items():
            self.add(n, label)

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0.0)

    def _admit(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        return labels if len(self._values) < MAX_SERIES else ("other",) * len(labels)

    def _current(self) -> dict[tuple[str, ...], float]:
        values = dict(self._values)
        for source in self._sources:
            values.update(source())
        return values

    def family(self) -> Metric:
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self._current().items():
            family.add_metric(labels, value)
        return family


class Gauge(Counter):
    """A number that goes up and down; set, added to, or read from its owner when somebody scrapes."""

    def set(self, value: float, *labels: str) -> None:
        self._values[labels if labels in self._values else self._admit(labels)] = value

    def family(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self._current().items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """A distribution over fixed upper bounds, in seconds."""

    def __init__(self, name: str, help_: str, bounds: tuple[float, ...], *labels: str) -> None:
        self.name, self.help, self.bounds, self.labels = name, help_, bounds, labels
        self._counts: dict[tuple[str, ...], list[int]] = {} if labels else {(): [0] * (len(bounds) + 1)}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            labels = labels if len(self._counts) < MAX_SERIES else ("other",) * len(labels)
            counts = self._counts.setdefault(labels, [0] * (len(self.bounds) + 1))
        counts[bisect_left(self.bounds, seconds)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + seconds

    def count(self, *labels: str) -> int:
        return sum(self._counts.get(labels, ()))

    def family(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, counts in self._counts.items():
            family.add_metric(labels, list(self._cumulated(counts)), self._sums.get(labels, 0.0))
        return family

    def _cumulated(self, counts: list[int]) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, n in zip((*self.bounds, float("inf")), counts, strict=True):
            total += n
            yield ("+Inf" if bound == float("inf") else repr(bound)), total


class Metrics(Collector):
    """All families of this process. `text` renders them; everything else is for whoever has something to count."""

    def __init__(self, *, instance: str = "", version: str = "") -> None:
        self._info = Gauge("callbridge_info", "Which process this is.", "instance", "version")
        self._info.set(1, instance, version)
        self._calls_families()
        self._media_families()
        self._stt_families()
        self._publish_families()
        self._edge_families()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(namespace="callbridge", registry=self._registry)

    def _calls_families(self) -> None:
        self.legs = Gauge("callbridge_legs", "Legs now.")
        self.legs_limit = Gauge("callbridge_legs_limit", "Legs this process admits.")
        self.calls = Gauge("callbridge_calls_running", "Calls now.")
        self.draining = Gauge("callbridge_draining", "Whether the process waits for its last calls.")
        self.calls_ended = Counter("callbridge_calls_total", "Calls that ended, by how.", "ingress", "reason")
        self.calls_refused = Counter("callbridge_calls_refused_total", "Calls not admitted.", "ingress", "reason")

    def _media_families(self) -> None:
        self.tick_seconds = Histogram(
            "callbridge_tick_seconds", "Duration of one tick of the media plane.", TICK_BUCKETS
        )
        self.tick_lateness = Histogram("callbridge_tick_lateness_seconds", "How late a tick began.", TICK_BUCKETS)
        self.packets = Counter("callbridge_packets_total", "RTP packets by what became of them.", "kind")
        self.audio = Counter("callbridge_audio_seconds_total", "Seconds of audio by what became of them.", "fate")
        self.gate_changes = Counter("callbridge_gate_changes_total", "Gate changes: open, or why closed.", "state")

    def _stt_families(self) -> None:
        self.sessions = Gauge("callbridge_sessions", "Provider connections now.", "provider")
        self.sessions_opened = Counter("callbridge_sessions_opened_total", "Provider connections opened.", "provider")
        self.keepalives = Counter("callbridge_keepalives_total", "Keepalive messages sent.", "provider")
        self.stt_lost = Counter("callbridge_stt_lost_total", "Provider sessions lost.", "provider", "reason_class")
        self.stt_connect = Histogram(
            "callbridge_stt_connect_seconds", "Dialling to open session.", WAIT_BUCKETS, "provider"
        )
        self.finals = Counter("callbridge_finals_total", "Final results.", "provider")
        self.turn_latency = Histogram(
            "callbridge_turn_latency_seconds", "End of speech to the turn's last final.", WAIT_BUCKETS
        )

    def _publish_families(self) -> None:
        self.events = Counter("callbridge_events_total", "Events accepted for publishing.", "type")
        self.interims_dropped = Counter("callbridge_interims_dropped_total", "Interims conflated or dropped.")
        self.events_lost = Counter("callbridge_events_lost_total", "Events lost: no room on disk nor in memory.")
        self.sink_up = Gauge("callbridge_sink_up", "Whether the sink takes events.")
        self.spool_up = Gauge("callbridge_spool_up", "Whether the write-ahead spool takes events.")
        self.group_lag = Gauge("callbridge_group_lag_events", "Entries not yet given to a consumer group.", "group")
        self.outbox_queued = Gauge("callbridge_outbox_queued", "Events not yet confirmed by the sink.")
        self.outbox_spool_bytes = Gauge("callbridge_outbox_spool_bytes", "Size of the write-ahead spool.")
        self.outbox_oldest = Gauge("callbridge_outbox_oldest_seconds", "Age of the oldest unconfirmed event.")
        self.redis_errors = Counter("callbridge_redis_errors_total", "Failed writes.", "kind")
        self.redis_write = Histogram("callbridge_redis_write_seconds", "One batch, sent to confirmed.", WAIT_BUCKETS)

    def _edge_families(self) -> None:
        self.sip_requests = Counter("callbridge_sip_requests_total", "SIP requests received.", "method")
        self.sip_responses = Counter("callbridge_sip_responses_total", "SIP responses sent.", "method", "status")
        self.sip_dropped = Counter("callbridge_sip_dropped_total", "SIP messages not answered.", "reason")
        self.sip_unresolved = Counter("callbridge_sip_unresolved_total", "Host names of peers without an address.")
        self.sip_dialogs = Gauge("callbridge_sip_dialogs", "SIP dialogs now.")
        self.sip_transactions = Gauge("callbridge_sip_transactions", "SIP transactions kept now.")
        self.rtp_ports = Gauge("callbridge_rtp_ports", "Pairs of media ports handed out.")
        self.tasks = Gauge("callbridge_tasks", "Tasks of the event loop.")
        self.http_requests = Counter("callbridge_http_requests_total", "HTTP requests.", "method", "route", "status")
        self.sse_subscribers = Gauge("callbridge_sse_subscribers", "Open event streams.")
        self.sse_dropped = Counter("callbridge_sse_dropped_total", "Events that slow subscribers missed.")
        self.whip_sessions = Gauge("callbridge_whip_sessions", "WebRTC sessions now.")
        self.whip_ended = Counter("callbridge_whip_ended_total", "WebRTC sessions that ended, by how.", "reason")

    def collect(self) -> Iterable[Metric]:
        for family in vars(self).values():
            if isinstance(family, (Counter, Histogram)):
                yield family.family()

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics where the `Accept` header asks for it, else plain text."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
