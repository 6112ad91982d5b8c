from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from bridge import metrics as module
from bridge.metrics import MAX_SERIES, Counter, Gauge, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.text()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def test_a_batch_of_packets_is_one_addition_to_the_counter_that_is_scraped() -> None:
    metrics = Metrics()
    metrics.packets.add(37, "received")
    metrics.packets.add(5, "received")
    metrics.packets.add_all({"lost": 2, "late": 1})
    seen = samples(metrics)
    assert seen["callbridge_packets_total", (("kind", "received"),)] == 42
    assert seen["callbridge_packets_total", (("kind", "lost"),)] == 2


def test_a_gauge_is_read_from_its_owner_at_the_moment_of_the_scrape() -> None:
    metrics, legs = Metrics(), ["a"]
    metrics.legs.read_from(lambda: len(legs))
    metrics.sessions.read_each_from(lambda: {"deepgram": 3.0})
    assert samples(metrics)["callbridge_legs", ()] == 1
    legs.append("b")
    assert samples(metrics)["callbridge_legs", ()] == 2
    assert samples(metrics)["callbridge_sessions", (("provider", "deepgram"),)] == 3


def test_histogram_buckets_cumulate_and_take_a_value_on_the_bound() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.015, 3.0):
        metrics.tick_lateness.observe(seconds)
    seen = samples(metrics)
    name = "callbridge_tick_lateness_seconds"
    assert [seen[f"{name}_bucket", (("le", le),)] for le in ("0.001", "0.01", "0.02", "+Inf")] == [2, 2, 3, 4]
    assert seen[f"{name}_sum", ()] == 3.0165


def test_invented_label_values_are_counted_as_other_instead_of_growing_memory() -> None:
    counter = Counter("callbridge_x_total", "x", "method")
    for n in range(2 * MAX_SERIES):
        counter.add(1, f"METHOD{n}")
    assert counter.value("other") == MAX_SERIES
    assert len(counter.family().samples) == MAX_SERIES + 1


def test_a_gauge_set_twice_keeps_the_last_value() -> None:
    gauge = Gauge("callbridge_x", "x", "provider")
    gauge.set(3, "soniox")
    gauge.set(1, "soniox")
    assert gauge.value("soniox") == 1


def test_every_family_is_valid_openmetrics_and_named_in_the_documentation() -> None:
    text, content_type = Metrics(instance="host-1", version="0.1.0").text("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(text.decode())}
    assert all(name.startswith("callbridge_") for name in names)
    assert module.__doc__
    own = {name for name in names if not name.startswith("callbridge_process_")}
    assert [name for name in own if name not in module.__doc__] == []
    assert len(own) > 30
