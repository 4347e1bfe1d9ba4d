"""Releases of different feature schemas side by side on the real Triton: a new profile feature is no new deployment.

The second release has one profile feature more, new plug-ins and new preference weights; both are loaded at once, each
round is made whole by one of them, and the way back is a number in a file.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import torch
from perfusion.v1.generation_service_pb2 import GetReleaseInfoRequest
from perfusion.v1.user_embedding_service_pb2 import GetUserEmbeddingRequest, PutUserProfileRequest
from perfusion.v1.user_pb2 import FeatureValue

from contract.feature_schema import Feature, FeatureSchema
from contract.release import current_file, current_number
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout
from lab.pretraining.random_family import make_loud
from tests.integration.client import CALL_TIMEOUT_S, fields_blamed, generate, new_id, request
from tests.ports import free_offset
from training.exporting.export import export_family
from training.exporting.release import Repository
from training.models.family import TINY, FamilyPaths
from training.models.reward_model import PerFusionRM
from training.reward.recipes import tiny
from training.wishes.preferences import PreferenceWeights

NEW = Feature("channel", "categorical", ("app", "web"))
PROFILE = {"style": FeatureValue(string_value="luxury"), "price_level": FeatureValue(string_value="premium")}
WITH_NEW = PROFILE | {"channel": FeatureValue(string_value="app")}


def family_with_one_feature_more(folder: Path) -> FamilyPaths:
    """The published family, but plug-ins and preference weights of a schema with one feature more."""
    published = FamilyPaths.under(TINY)
    schema = FeatureSchema((*published.schema().features, NEW), version=2)
    own = replace(
        published,
        feature_schema=folder / "feature_schema.json",
        perfusion_rm=folder / "perfusion_rm",
        preferences=folder / "preferences",
    )
    torch.manual_seed(0)
    schema.write(own.feature_schema)
    make_loud(PerFusionRM(published.clip(), schema, tiny().config())).save(own.perfusion_rm)
    weights = PreferenceWeights(schema, published.vocabulary())
    PreferenceWeights(schema, published.vocabulary(), torch.randn_like(weights.weights)).save(own.preferences)
    return own


@pytest.fixture(scope="module")
def both(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, on a repository with the release in service and one of another schema."""
    root = tmp_path_factory.mktemp("schemas") / "model_repository"
    shutil.copytree(cluster.layout.model_repository, root)
    repository, old = Repository(root), current_number(root)
    new = export_family(family_with_one_feature_more(root.parent), repository, processes=2)
    assert new > old and repository.release_dir(old).exists()
    drawn_by = [repository.model_dir("denoiser", number) / "model.onnx" for number in (old, new)]
    assert drawn_by[0].read_bytes() == drawn_by[1].read_bytes()
    running = Cluster(Layout("schemas", free_offset(), root), say=print)
    shutil.rmtree(running.layout.home, ignore_errors=True)
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def clients(both: Cluster) -> Iterator[Clients]:
    with connect(both.layout) as connected:
        yield connected


def put(clients: Clients, user_id: str, features: dict[str, FeatureValue]) -> None:
    clients.users.PutUserProfile(PutUserProfileRequest(user_id=user_id, features=features), timeout=CALL_TIMEOUT_S)


def test_each_release_reads_a_profile_by_its_own_schema_and_the_way_back_is_open(
    both: Cluster, clients: Clients
) -> None:
    root, user_id = both.layout.model_repository, f"merchant-{new_id()}"
    new = current_number(root)
    old = max(int(path.name) for path in (root / "releases").iterdir() if path.is_dir() and int(path.name) < new)
    put(clients, user_id, WITH_NEW)
    vectors = {
        number: clients.users.GetUserEmbedding(
            GetUserEmbeddingRequest(user_id=user_id, release=number), timeout=CALL_TIMEOUT_S
        ).embedding
        for number in (old, new)
    }
    assert (list(vectors[old].unknown_features), list(vectors[new].unknown_features)) == (["channel"], [])
    assert list(vectors[old].favours) != list(vectors[new].favours)
    assert len(vectors[old].reward_text_user) == len(vectors[new].reward_text_user), "padded to the same width"

    assert generate(clients, request(user_id)).group.release == new
    info = clients.generation.GetReleaseInfo(GetReleaseInfoRequest(), timeout=CALL_TIMEOUT_S).info
    assert (info.release, info.features[-1].name) == (new, "channel")

    current_file(root).write_text(f"{old}\n")
    try:
        assert generate(clients, request(user_id)).group.release == old
        with pytest.raises(grpc.RpcError) as refused:
            put(clients, user_id, WITH_NEW)
        assert fields_blamed(refused.value) == {"features[channel]"}
        assert list(clients.generation.GetReleaseInfo(GetReleaseInfoRequest(release=new)).info.features)[-1].name == (
            "channel"
        ), "the other one is still there"
    finally:
        current_file(root).write_text(f"{new}\n")
    assert generate(clients, request(user_id)).group.release == new
