"""What the tests of releases are made of: a Triton that is a table in memory, and releases without graphs."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contract.feature_schema import Feature, FeatureSchema
from contract.release import FEATURE_SCHEMA, MANIFEST, PHRASES, ModelFiles
from contract.repository import Repository, sha256
from deploy.releases.errors import NotLoadedError, ServerError
from deploy.releases.server import Server
from tests.contract.test_release import MANIFEST as SAID
from tests.contract.test_release import WORDS

CONTRACTS = Path(__file__).parents[3] / "model_repository"
MODELS = ("denoiser", "text_encoder", "vae_decoder")
SCHEMA = FeatureSchema((Feature("style", "categorical", ("minimalist", "luxury")),))


class Table(Server):
    """A Triton of which only the table of loaded versions is there.

    It may refuse to load a version; one that is mute does not compute, one that hangs does not answer.
    """

    def __init__(self, refuses: Sequence[tuple[str, int]] = ()) -> None:
        self.address, self.held = "triton:8001", {model: dict[int, str]() for model in MODELS}
        self.refuses, self.mute, self.hangs = list(refuses), list[tuple[str, int]](), list[tuple[str, int]]()
        self.loads: list[tuple[str, set[int]]] = []
        self.counts: dict[tuple[str, int], int] = {}

    def states(self, limit_s: float = 0.0) -> dict[str, dict[int, str]]:
        return {model: dict(held) for model, held in self.held.items()}

    def config(self, model: str) -> Any | None:
        return object() if self.held[model] else None

    def load(self, model: str, config: Any, versions: set[int]) -> None:
        self.loads.append((model, set(versions)))
        for version in versions:
            if (model, version) in self.refuses:
                raise ServerError(f"{model} {version} is no graph")
        self.held[model] = dict.fromkeys(versions, "READY")

    def prove(self, model: str, version: int, config: Any) -> None:
        assert (model, version) not in self.hangs, "this takes ten minutes"
        if version not in self.versions(model):
            raise NotLoadedError(f"{model} {version} is not loaded")
        if (model, version) in self.mute:
            raise ServerError(f"{model} {version} does not compute")
        self.counts[model, version] = self.counts.get((model, version), 0) + 1

    def prove_within(self, models: Sequence[str], version: int, limit_s: float) -> list[str]:
        late = [model for model in models if (model, version) in self.hangs]
        for model in set(models) - set(late):
            self.prove(model, version, None)
        return late

    def inferences(self) -> dict[tuple[str, int], int]:
        return self.counts


def write_repository(root: Path) -> Repository:
    """Four releases, 1 live."""
    made = Repository(root)
    for model in MODELS:
        (root / model).mkdir()
        shutil.copy2(CONTRACTS / model / "config.pbtxt", root / model)
    for number in (1, 2, 3, 4):
        write_release(made, number)
    made.point(1, None)
    return made


def write_release(repository: Repository, number: int) -> None:
    """As an export would stage it, with a line of text in the place of each graph."""
    files = {}
    for model in MODELS:
        path = repository.model_dir(model, number) / "model.onnx"
        path.parent.mkdir()
        path.write_text(f"{model} {number}")
        files[model] = ModelFiles({path.name: sha256(path)}, 0.0, 1e-4, "f")
    directory = repository.release_dir(number)
    directory.mkdir(parents=True)
    SCHEMA.write(directory / FEATURE_SCHEMA)
    WORDS.write(directory / PHRASES)
    said = replace(SAID, release=number, models=files, in_use=replace(SAID.in_use, feature_slots=SCHEMA.n_slots))
    (directory / MANIFEST).write_text(json.dumps(said.to_json()))


def loaded(triton: Table) -> list[set[int]]:
    return [triton.versions(model) for model in MODELS]


def everywhere(*numbers: int) -> list[set[int]]:
    return [set(numbers) for _ in MODELS]


def spoil(repository: Repository, number: int) -> None:
    (repository.model_dir("denoiser", number) / "model.onnx").write_text("rotten")
