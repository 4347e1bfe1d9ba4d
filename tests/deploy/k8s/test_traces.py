"""The component by which the services' spans leave the cluster: told to each, let out to the collector alone."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.k8s.manifests import K8S, KUSTOMIZE, NAME, SETTINGS, Objects, environment, selects
from tests.deploy.k8s.policies import network, settings
from tests.deploy.k8s.schemas import problem

CHANGED = """
patches:
  - patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: traces, namespace: perfusion},
      data: {PERFUSION_TRACES_SHARE: "0.01"}}'
"""


@pytest.fixture
def traced(tmp_path: Path) -> Objects:
    """An overlay of somebody's, which names the component and changes the share."""
    base, component = (
        os.path.relpath(K8S / folder, tmp_path.resolve()) for folder in ("overlays/gpu", "components/traces")
    )
    said = f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{base}]\n"
    (tmp_path / "kustomization.yaml").write_text(f"{said}components: [{component}]\n{CHANGED}")
    built = subprocess.run([KUSTOMIZE, "build", tmp_path], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Objects(list(yaml.load_all(built.stdout, yaml.CSafeLoader)))


def test_each_service_is_told_and_what_it_was_told_before_stays(traced: Objects) -> None:
    [told] = [each for each in traced.of("ConfigMap") if each["metadata"]["name"].startswith("traces")]
    assert told["data"]["PERFUSION_TRACES_SHARE"] == "0.01"
    for name, _, container, kind in traced.services():
        for variable in told["data"]:
            key = environment(container)[variable]["valueFrom"]["configMapKeyRef"]
            assert key == {"name": told["metadata"]["name"], "key": variable}, name
        read = kind(**{key.removeprefix("PERFUSION_").lower(): said for key, said in told["data"].items()})
        assert (read.traces_to, read.traces_share) == ("https://collector.observability:4317", 0.01)
        assert "PERFUSION_CERTIFICATES" in environment(container), "it shows the collector its certificate"


def test_the_services_alone_reach_the_collector_alone(traced: Objects) -> None:
    policy = traced.named("NetworkPolicy", "to-collector")["spec"]
    let_out = {pod.labels[NAME] for pod in traced.pods() if selects(policy["podSelector"], pod.labels)}
    assert let_out == set(SETTINGS)
    assert policy["egress"] == [
        {"to": [{"namespaceSelector": {"matchLabels": {"perfusion/collector": "allowed"}}}], "ports": [{"port": 4317}]}
    ]


@pytest.mark.parametrize("policy", [*settings.POLICIES, *network.POLICIES], ids=lambda each: each.__name__)
def test_a_policy_is_kept(policy: Callable[[Objects], Iterator[str]], traced: Objects) -> None:
    assert list(policy(traced)) == []


def test_its_objects_have_their_form(traced: Objects) -> None:
    for each in traced.of("NetworkPolicy", "ConfigMap", "Deployment"):
        assert problem(each) is None


def test_without_it_nobody_is_told(whole: Objects) -> None:
    for _, _, container, _ in whole.services():
        assert not any("TRACES" in name for name in environment(container))
