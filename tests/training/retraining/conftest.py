"""The parts of a family that a retraining of wishes needs, the published CLIP and two kinds of phrases; and a Kafka."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.feature_schema import FeatureSchema
from contract.repository import Repository
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout
from lab.market.prompts import vocabulary
from tests.ports import free_offset
from training.models.family import TINY, FamilyPaths

REWARD = FamilyPaths.under(TINY).reward.absolute()  # tests run elsewhere


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, schema: FeatureSchema) -> Path:
    own = tmp_path_factory.mktemp("base")
    (own / "reward").symlink_to(REWARD)
    entries = vocabulary().to_json()
    (own / "phrases.json").write_text(json.dumps([entries[0], entries[-1]]))  # categories and backdrops
    schema.write(own / "feature_schema.json")
    return own


@pytest.fixture(scope="session")
def kafka(exported: Repository) -> Iterator[Layout]:
    """A real broker of these tests' own, whose topics may be made anew."""
    Cluster(Layout("test-kafka")).down()  # what an interrupted session left
    layout = Layout("test-kafka", free_offset(), exported.root)
    shutil.rmtree(layout.home, ignore_errors=True)
    cluster = Cluster(layout)
    try:
        cluster.up(["kafka"])
        yield layout
    finally:
        cluster.down()
