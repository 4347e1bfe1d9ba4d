"""Every overlay builds, every object has its form, and every policy is kept."""

from collections.abc import Callable, Iterator

import pytest

from tests.deploy.k8s import schemas
from tests.deploy.k8s.manifests import OVERLAYS, Objects, build
from tests.deploy.k8s.policies import (
    commands,
    confinement,
    identity,
    kafka,
    monitoring,
    network,
    operators,
    serving,
    settings,
)

Policy = Callable[[Objects], Iterator[str]]
POLICIES: list[Policy] = [
    *settings.POLICIES,
    *serving.POLICIES,
    *confinement.POLICIES,
    *identity.POLICIES,
    *kafka.POLICIES,
    *network.POLICIES,
    *operators.POLICIES,
    *monitoring.POLICIES,
    *commands.POLICIES,
]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_has_its_form(overlay: str) -> None:
    problems = [schemas.problem(each) for each in build(overlay) if schemas.is_here(each["kind"])]
    assert [each for each in problems if each] == []


def test_every_kind_has_a_schema() -> None:
    missing = sorted(kind for kind in schemas.OPERATORS if not schemas.is_here(kind))
    assert set(missing) <= set(schemas.STRIMZI)
    if missing:
        pytest.skip("no Java 21 here wrote Strimzi's schemas (deploy/k8s/tools.sh)")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda each: each.__name__)
def test_a_policy_is_kept(policy: Policy, overlay: str) -> None:
    assert list(policy(build(overlay))) == []


def test_acknowledged_is_durable_where_it_counts() -> None:
    assert list(operators.acknowledged_is_durable(build("gpu"))) == []
