"""The Helm chart, as Helm's own library reads, lints and renders it, and as Kubernetes' schemas have it."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_router import __version__

helm = pytest.importorskip("helm_python", reason="there is no Helm library for this platform")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "llm-router"
DOCKERFILE = Path(__file__).parents[2] / "deploy" / "docker" / "Dockerfile"
OLDEST, NEWEST = "1.30", "1.37"  # the chart's own floor, and the newest whose schemas we have
SECRET = {"secret": {"name": "llm"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "the least": SECRET,
    "everything": {
        **SECRET,
        "image": {"tag": "edge"},
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccount": {"annotations": {"a": "b"}},
        "router": {
            "settings": {"LLM_ROUTER_POLICY": "least-requests", "LLM_ROUTER_SILENCE": 30},
            "home": {
                "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}},
            },
            "podAnnotations": {"a": "b"},
            "nodeSelector": {"a": "b"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "priorityClassName": "high",
            "autoscaling": {"enabled": True},
        },
        "service": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "annotations": {"a": "b"}},
        "ingress": {"enabled": True, "tlsSecret": "tls"},
        "serviceMonitor": {"enabled": True, "keySecret": {"name": "key"}, "labels": {"a": "b"}},
        "networkPolicy": {"enabled": True, "routerFrom": [{"namespaceSelector": {}}]},
        "node": {
            "gpus": 2,
            "runtimeClassName": "nvidia",
            "resources": {"limits": {"memory": "64Gi"}},
            "sharedModels": {"existingClaim": "models"},
            "podAnnotations": {"a": "b"},
            "affinity": {"podAntiAffinity": {}},
            "priorityClassName": "high",
        },
    },
    "next to nothing": {
        **SECRET,
        "serviceAccount": {"create": False},
        "router": {"replicas": 1, "podDisruptionBudget": {"enabled": False}},
        "node": {"enabled": False},
    },
    "nodes of any kind": {
        **SECRET,
        "node": {"gpus": 0, "home": {"emptyDir": {}}, "nodeSelector": {}, "tolerations": []},
    },
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that the chart makes of these values."""
    files = helm.Chart.load(CHART).render(values, name="llm", namespace="ai")
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    documents = (part for text in texts for part in re.split(r"^---$", text, flags=re.MULTILINE))
    return [helm.chart.values_from_yaml(document) for document in documents if document.strip()]


@cache
def variant(name: str) -> bytes:
    return msgspec.json.encode(rendered(VARIANTS[name]))


def objects(name: str) -> dict[str, dict[str, Any]]:
    """Those of a variant, by kind and name."""
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in msgspec.json.decode(variant(name))}


@pytest.mark.parametrize("name", VARIANTS)
def test_helm_lints(name: str) -> None:
    """It finds nothing but that there is no icon."""
    report = helm.chart.lint(CHART, VARIANTS[name], strict=True, kube_version=f"v{OLDEST}.0")
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("name", VARIANTS)
def test_kubernetes_takes_it(name: str) -> None:
    """Every object has the fields that its schema knows, and no other; the chart's oldest release, and the newest."""
    for one in objects(name).values():
        if one["apiVersion"] == "monitoring.coreos.com/v1":  # the Prometheus operator's, whose schema is its own
            continue
        for release in (OLDEST, NEWEST):
            kubernetes_validate.validate(one, release, strict=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_its_parts_find_each_other(name: str) -> None:
    """What selects pods selects some of its own; what is mounted is a volume, and what is probed a port."""
    made = objects(name)
    pods = [one["spec"]["template"] for one in made.values() if one["kind"] in {"Deployment", "DaemonSet"}]
    for selector in selectors(list(made.values())):
        assert any(selector.items() <= pod["metadata"]["labels"].items() for pod in pods), selector
    for pod in pods:
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            ports = {port["name"] for port in container.get("ports", [])}
            assert {container[p]["httpGet"]["port"] for p in container if p.endswith("Probe")} <= ports


def selectors(inside: object) -> list[dict[str, str]]:
    """Every selector of pods, wherever it stands."""
    if isinstance(inside, list):
        return [found for one in inside for found in selectors(one)]
    if not isinstance(inside, dict):
        return []
    here = [inside["matchLabels"]] if "matchLabels" in inside else []
    if inside.get("kind") == "Service":
        here.append(inside["spec"]["selector"])
    return here + [found for value in inside.values() for found in selectors(value)]


@pytest.mark.parametrize("kind", ["Deployment/llm-llm-router", "DaemonSet/llm-llm-router-node"])
def test_pods_have_no_more_rights_than_they_need(kind: str) -> None:
    """Not root, nothing writable but their volumes, no token of the cluster; the image's own user."""
    pod = objects("everything")[kind]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (
        f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE.read_text()
    )
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("kind", ["Deployment/llm-llm-router", "DaemonSet/llm-llm-router-node"])
def test_requests_in_flight_have_their_time(kind: str) -> None:
    """Kubernetes waits for longer than the drain takes, and what precedes it."""
    pod = objects("everything")[kind]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (drain,) = [int(v["value"]) for v in container["env"] if v["name"].endswith("_DRAIN_TIMEOUT")]
    before = container.get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before + drain + 10


def test_secrets_are_only_pointed_at() -> None:
    """The database's URL and the join token come from the Secret, and a node's URL is put together in its container."""
    made = objects("the least")
    router = environment(made["Deployment/llm-llm-router"])
    node = environment(made["DaemonSet/llm-llm-router-node"])
    for variable, key in ((router["LLM_ROUTER_DATABASE_URL"], "database-url"), (node["JOIN_TOKEN"], "join-token")):
        assert variable["valueFrom"]["secretKeyRef"] == {"name": "llm", "key": key}
    assert router["LLM_ROUTER_JOIN_TOKEN"] == node["JOIN_TOKEN"] | {"name": "LLM_ROUTER_JOIN_TOKEN"}
    assert list(node).index("JOIN_TOKEN") < list(node).index("ROUTER_URL")  # or $(…) stays as it is
    service = made["Service/llm-llm-router"]
    assert node["ROUTER_URL"]["value"] == f"http://$(JOIN_TOKEN)@llm-llm-router:{service['spec']['ports'][0]['port']}"


def environment(workload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable for variable in container["env"]}


def test_replicas_are_the_autoscalers_business_where_there_is_one() -> None:
    """An upgrade that set their number would end replicas that are needed; and what it measures is asked for."""
    made = objects("everything")
    deployment = made["Deployment/llm-llm-router"]
    assert "replicas" not in deployment["spec"]
    assert "HorizontalPodAutoscaler/llm-llm-router" in made
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert objects("the least")["Deployment/llm-llm-router"]["spec"]["replicas"] == 2


def test_nodes_stand_on_machines_with_gpus() -> None:
    """Where such machines are kept free of others, too; and they have the GPUs to themselves."""
    pod = objects("everything")["DaemonSet/llm-llm-router-node"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": 2}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "secret.name is needed"),
        (SECRET | {"router": {"replica": 3}}, "replica"),
        (SECRET | {"router": {"replicas": 0}}, "replicas"),
        (SECRET | {"node": {"home": {"emptyDir": {}, "hostPath": {}}}}, "home"),  # which of the two?
        (SECRET | {"serviceMonitor": {"enabled": True}}, "keySecret.name is needed"),
    ],
)
def test_values_that_cannot_be_meant(values: dict[str, Any], reason: str) -> None:
    """They are refused, and the reason names them."""
    with pytest.raises(helm.HelmError, match=re.escape(reason)):
        rendered(values)


def test_it_is_of_this_release() -> None:
    """The image's tag is the program's version."""
    chart = helm.Chart.load(CHART).metadata
    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
