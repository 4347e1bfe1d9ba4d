"""Releases of different feature schemas side by side on the real Triton: a new profile feature is no new deployment.

The second release has one profile feature more, new plug-ins and new preference weights; it is exported beside the
first, loaded and promoted, each round is made whole by one of them, and the way back is open.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import torch
from perfusion.v1.generation_service_pb2 import GetReleaseInfoRequest
from perfusion.v1.user_embedding_service_pb2 import GetUserEmbeddingRequest, PutUserProfileRequest
from perfusion.v1.user_pb2 import FeatureValue

from contract.feature_schema import Feature, FeatureSchema
from contract.release import current_number
from contract.repository import Repository
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout
from deploy.local.triton_server import server_of
from deploy.releases.controller import Controller
from tests.integration.client import CALL_TIMEOUT_S, fields_blamed, generate, new_id, request
from tests.ports import free_offset
from tests.repositories import copy_of
from tests.training.loud import make_loud
from training.exporting.staging import export_family
from training.models.family import TINY, FamilyPaths
from training.models.reward_model import PerFusionRM
from training.reward.recipes import tiny
from training.wishes.preferences import PreferenceWeights

pytestmark = pytest.mark.slow  # exports a release of another schema

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
    """A cluster of its own, in which a release of another schema was promoted over the one before."""
    root = tmp_path_factory.mktemp("schemas") / "model_repository"
    old = current_number(cluster.layout.model_repository)
    repository = copy_of(Repository(cluster.layout.model_repository), root, [old], live=old)
    new = export_family(family_with_one_feature_more(root.parent), repository, processes=2)
    assert new > old and repository.live() == old
    drawn_by = [repository.model_dir("denoiser", number) / "model.onnx" for number in (old, new)]
    assert drawn_by[0].read_bytes() == drawn_by[1].read_bytes()
    running = Cluster(Layout("schemas", free_offset(), root), say=print)
    shutil.rmtree(running.layout.home, ignore_errors=True)
    try:
        running.up()
        with controlled(running) as controller:
            controller.load(new)
            controller.promote(new)
        yield running
    finally:
        running.down()


@contextmanager
def controlled(cluster: Cluster) -> Iterator[Controller]:
    """What loads and promotes releases in this cluster."""
    with closing(server_of(cluster.layout)) as server:
        yield Controller(Repository(cluster.layout.model_repository), [server], print)


@pytest.fixture(scope="module")
def clients(both: Cluster) -> Iterator[Clients]:
    with connect(both.layout) as connected:
        yield connected


def put(clients: Clients, user_id: str, features: dict[str, FeatureValue]) -> None:
    clients.users.PutUserProfile(PutUserProfileRequest(user_id=user_id, features=features), timeout=CALL_TIMEOUT_S)


def test_each_release_reads_a_profile_by_its_own_schema_and_the_way_back_is_open(
    both: Cluster, clients: Clients
) -> None:
    repository, user_id = Repository(both.layout.model_repository), f"merchant-{new_id()}"
    old, new = repository.numbers()
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

    with controlled(both) as controller:
        controller.rollback()
        assert generate(clients, request(user_id)).group.release == old
        with pytest.raises(grpc.RpcError) as refused:
            put(clients, user_id, WITH_NEW)
        assert fields_blamed(refused.value) == {"features[channel]"}
        info = clients.generation.GetReleaseInfo(GetReleaseInfoRequest(release=new), timeout=CALL_TIMEOUT_S).info
        assert info.features[-1].name == "channel", "the other one is still there"
        controller.rollback()
    assert generate(clients, request(user_id)).group.release == new
