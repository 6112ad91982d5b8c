"""Alarms and dashboard name only metrics and labels that callbridge exposes, in PromQL that Prometheus takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.metrics import Counter, Histogram, Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
SCRAPED = {"job", "instance"}
"Labels that Prometheus adds."
PROCESS = {
    f"callbridge_process_{name}"
    for name in ("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds")
}


def exposed() -> dict[str, set[str]]:
    """Every sample's name to its labels."""
    found: dict[str, set[str]] = {name: set() for name in PROCESS}
    for family in vars(Metrics()).values():
        if isinstance(family, Histogram):
            found |= {f"{family.name}_{part}": set(family.labels) for part in ("sum", "count")}
            found[f"{family.name}_bucket"] = {*family.labels, "le"}
        elif isinstance(family, Counter):
            found[family.name] = set(family.labels)
    return found


EXPOSED = exposed()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana" / "dashboard.json").read_text()))


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield f"alarm {rule['alert']}", rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']} {target['refId']}", target["expr"]


FOUND = dict(expressions())


@pytest.mark.parametrize("where", FOUND)
def test_every_metric_and_label_that_is_asked_for_is_exposed(where: str) -> None:
    expression = FOUND[where]
    named = set(re.findall(r"\bcallbridge_[a-z_]+", expression))
    assert named or "up{" in expression
    assert named <= EXPOSED.keys()
    for name, matchers in re.findall(r"(callbridge_[a-z_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= EXPOSED[name] | SCRAPED
    labels = set().union(*(EXPOSED[name] for name in named)) | SCRAPED
    for by in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression):
        assert {label.strip() for label in by.split(",")} <= labels


def test_a_rate_is_taken_of_what_only_grows_and_of_nothing_else() -> None:
    for where, expression in FOUND.items():
        for name in re.findall(r"\b(?:rate|increase)\((callbridge_[a-z_]+)", expression):
            assert name.endswith(("_total", "_bucket", "_sum", "_count")), where


def test_the_metrics_and_only_they_are_in_the_documented_list() -> None:
    from bridge import metrics

    table = "\n".join(line.split("|")[1] for line in (metrics.__doc__ or "").splitlines() if line.startswith("| `"))
    listed = set(re.findall(r"`(callbridge_[a-z_]+)`", table))
    families = {f.name for f in vars(Metrics()).values() if isinstance(f, (Counter, Histogram))}
    assert listed == families


def test_labels_that_alarms_choose_by_are_values_that_occur() -> None:
    text = "\n".join(FOUND.values())
    fates = set(re.findall(r'fate="(\w+)"', text))
    assert fates <= {"received", "sent", "lost", "concealed", "replayed"}
    assert set(re.findall(r'kind="(\w+)"', text)) <= {"received", "lost", "late", "duplicate", "foreign", "malformed"}


def test_every_alarm_says_how_urgent_it_is_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]


def test_the_dashboard_has_a_place_for_each_panel() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_prometheus_takes_the_alarms_and_they_ring_when_they_should() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts.test.yaml")


@needs_promtool
def test_prometheus_takes_the_scrape_configuration() -> None:
    promtool("check", "config", "--syntax-only", "prometheus.yaml")


def test_the_scrape_configuration_for_kubernetes_finds_our_pods() -> None:
    # Debian's promtool is built without Kubernetes
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.kubernetes.yaml").read_text())["scrape_configs"]
    pod = yaml.safe_load((DEPLOY / "kubernetes" / "statefulset.yaml").read_text())["spec"]["template"]
    keeps = {rule["source_labels"][0]: rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"}
    assert keeps["__meta_kubernetes_pod_label_app_kubernetes_io_name"] == "callbridge"
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "callbridge"
    ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
    assert keeps["__meta_kubernetes_pod_container_port_name"] in ports
    assert {"target_label": "job", "replacement": "callbridge"} in job["relabel_configs"]


@needs_promtool
def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*"}
    records = []
    for where, expression in FOUND.items():
        for name, value in variables.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, where
        records.append({"record": f"e{len(records)}", "expr": expression})
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", str(file))
