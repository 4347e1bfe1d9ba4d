"""docs/security.md says for each part that has keys of the object store which prefixes it uses, and for no other."""

import re

from tests.deploy.k8s.manifests import ROOT, Objects
from tests.deploy.k8s.policies.commands import secrets_of

ROW = re.compile(r"^\| ([a-z, -]+) \| (`[a-z]+`(?:, `[a-z]+`)*) \| (`s3:.*) \|$", re.MULTILINE)
BY_URI = {("retraining", "pictures")}  # groups of the lake name them


def test_each_part_with_a_prefix_has_its_rights(whole: Objects) -> None:
    named = {
        (pod.owner["metadata"]["name"], key)
        for pod in whole.pods()
        for secret, key in secrets_of(whole, pod)
        if secret == "perfusion-object-store"
    }
    told = {
        (part, prefix)
        for parts, prefixes, _ in ROW.findall((ROOT / "docs" / "security.md").read_text())
        for part in parts.split(", ")
        for prefix in re.findall("[a-z]+", prefixes)
    }
    assert told == named | BY_URI
