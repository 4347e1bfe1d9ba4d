"""Overlays in a cluster: built, and applied with the definitions of the operators' kinds and the Secrets they name.

The operators themselves are not here: their objects are admitted, and nothing comes of them.
"""

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from deploy.cluster.control_plane import ControlPlane
from tests.deploy.k8s.manifests import K8S, KUSTOMIZE, ROOT, SCHEMAS

MACHINE = ROOT / "deploy" / "cluster" / "overlay"


@cache
def built(overlay: str | Path) -> str:
    """An overlay of deploy/k8s by its name, or one by its folder, as YAML."""
    folder = overlay if isinstance(overlay, Path) else K8S / "overlays" / overlay
    command = [KUSTOMIZE, "build", "--load-restrictor=LoadRestrictionsNone", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def install_definitions(plane: ControlPlane) -> None:
    """The operators' kinds."""
    for path in sorted(SCHEMAS.glob("*.yaml")):
        plane.kubectl("create", f"--filename={path}")
    plane.kubectl("wait", "--for=condition=Established", "customresourcedefinition", "--all", "--timeout=30s")


def apply(plane: ControlPlane, text: str, secrets: Mapping[str, Mapping[str, str]]) -> None:
    """The namespace, its Secrets, then everything."""
    plane.apply((K8S / "base" / "namespace" / "namespace.yaml").read_text())
    for name, values in secrets.items():
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "perfusion"},
            "stringData": dict(values),
        }
        plane.apply(json.dumps(secret))
    plane.apply(text)
