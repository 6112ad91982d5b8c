"""The manifests fit together. There is no cluster here: what a schema would say is not said, what breaks calls is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.metrics import Gauge, Metrics
from bridge.preflight import check_settings

from .configurations import SECRETS, kubernetes_configuration, settings_of

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUBECTL = shutil.which("kubectl")


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [document for name in listed for document in yaml.safe_load_all((FOLDER / name).read_text())]


def one(kind: str, name: str = "callbridge") -> dict[str, Any]:
    (found,) = [d for d in documents() if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


POD = one("StatefulSet")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def test_every_manifest_is_listed_and_every_listed_one_is_there() -> None:
    listed = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}


def test_every_object_has_what_the_server_asks_for() -> None:
    versions = {
        "StatefulSet": "apps/v1", "Service": "v1", "ConfigMap": "v1", "PodDisruptionBudget": "policy/v1",
        "HorizontalPodAutoscaler": "autoscaling/v2",
    }  # fmt: skip
    for document in documents():
        assert document["apiVersion"] == versions[document["kind"]]
        assert document["metadata"]["name"].startswith("callbridge")


def test_selectors_find_the_pods() -> None:
    labels = POD["metadata"]["labels"].items()
    assert one("StatefulSet")["spec"]["selector"]["matchLabels"].items() <= labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    for name in ("callbridge", "callbridge-http"):
        assert one("Service", name)["spec"]["selector"].items() <= labels


def test_services_and_probes_name_ports_that_exist_and_that_the_configuration_binds() -> None:
    ports = {port["name"]: port for port in CONTAINER["ports"]}
    for name in ("callbridge", "callbridge-http"):
        for port in one("Service", name)["spec"]["ports"]:
            assert ports[port["targetPort"]]["protocol"] == port["protocol"]
    probes = [CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["port"] for probe in probes} == {"http"}
    settings = settings_of(kubernetes_configuration(FOLDER), [])
    assert settings.http.listen == f"0.0.0.0:{ports['http']['containerPort']}"
    assert set(settings.sip.listen) == {
        f"{name.removeprefix('sip-')}:0.0.0.0:{port['containerPort']}" for name, port in ports.items() if "sip" in name
    }
    assert all(port["hostPort"] == port["containerPort"] for port in ports.values()), "one pod a node"


def test_the_headless_service_is_the_set_s_and_keeps_draining_pods() -> None:
    service = one("Service")
    assert one("StatefulSet")["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_a_pod_may_drain_as_long_as_the_configuration_says_and_gets_one_signal() -> None:
    settings = settings_of(kubernetes_configuration(FOLDER), [])
    before = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert before[0] == "sleep", "a signal here would be the first of two, and the second hangs up"
    assert POD["spec"]["terminationGracePeriodSeconds"] >= settings.service.drain_s + float(before[1]) + 45


def test_the_configuration_that_is_mounted_is_read_and_right() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in one("StatefulSet")["spec"]["volumeClaimTemplates"]}
    assert mounts.keys() == volumes.keys() | claims
    assert volumes["configuration"]["configMap"]["name"] == one("ConfigMap")["metadata"]["name"]
    (name,) = one("ConfigMap")["data"]
    assert CONTAINER["args"][-1] == f"{mounts['configuration']}/{name}"
    problems: list[str] = []
    settings = settings_of(kubernetes_configuration(FOLDER), problems)
    assert problems == []
    assert settings.spool.path.startswith(mounts["spool"] + "/")


def test_every_key_of_the_configuration_is_checked_so_that_a_wrong_one_would_be_told() -> None:
    configuration = kubernetes_configuration(FOLDER)
    problems: list[str] = []
    check_settings(configuration.tables | {"sip": configuration.tables["sip"] | {"alow": []}}, problems)
    assert any("alow" in problem for problem in problems)


def test_keys_come_from_a_secret_and_from_nowhere_else() -> None:
    (source,) = CONTAINER["envFrom"]
    assert source["secretRef"]["name"] in (FOLDER / "kustomization.yaml").read_text()
    assert not {variable["name"] for variable in CONTAINER["env"]} & {*SECRETS, "REDIS_URL", "SONIOX_API_KEY"}
    assert "Secret" not in {document["kind"] for document in documents()}


def test_the_spool_has_room_on_its_volume() -> None:
    (claim,) = one("StatefulSet")["spec"]["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert size.endswith("Gi")
    assert settings_of(kubernetes_configuration(FOLDER), []).spool.max_bytes < int(size[:-2]) << 30


def test_it_scales_by_a_metric_that_exists_and_below_what_a_pod_admits() -> None:
    autoscaler = one("HorizontalPodAutoscaler")["spec"]
    target = one("StatefulSet")
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"], "kind": target["kind"], "name": target["metadata"]["name"],
    }  # fmt: skip
    (metric,) = autoscaler["metrics"]
    assert metric["pods"]["metric"]["name"] in {f.name for f in vars(Metrics()).values() if isinstance(f, Gauge)}
    legs = settings_of(kubernetes_configuration(FOLDER), []).service.max_legs
    assert int(metric["pods"]["target"]["averageValue"]) <= 0.8 * legs
    assert autoscaler["minReplicas"] > one("PodDisruptionBudget")["spec"]["maxUnavailable"]


def test_the_pod_is_nobody_and_may_nothing() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["spec"]["automountServiceAccountToken"] is False


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kustomize_puts_it_together() -> None:
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == len(documents())
    (pods,) = [document for document in made if document["kind"] == "StatefulSet"]
    (container,) = pods["spec"]["template"]["spec"]["containers"]
    assert ":" in container["image"], "pinned by tag"
