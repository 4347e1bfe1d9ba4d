"""Encoding of profiles and the crossing of Eq. 2."""

import json
import math
from pathlib import Path

import pytest
import torch

from contract.errors import FeatureError
from contract.feature_schema import Feature, FeatureSchema
from training.models.feature_crossing import UserEncoder, drop_features


def test_a_profile_is_encoded_slot_by_slot(schema: FeatureSchema) -> None:
    profile = {"style": "luxury", "audience": ["party", "teen", "party"], "years_open": 3}
    assert schema.encode(profile) == [2, 1, 3, 3]
    assert schema.n_slots == 4


def test_missing_and_unknown_values_are_slot_zero(schema: FeatureSchema) -> None:
    assert schema.encode({}) == [0, 0, 0, 0]
    assert schema.encode({"style": "grunge", "audience": ["nobody", "office"]}) == [0, 2, 0, 0]
    assert schema.encode({"years_open": math.nan}) == [0, 0, 0, 0]


def test_numbers_fall_into_their_bins(schema: FeatureSchema) -> None:
    years = [0, 0.99, 1, 2, 6, 1000]
    assert [schema.encode({"years_open": y})[3] for y in years] == [1, 1, 2, 2, 4, 4]


@pytest.mark.parametrize(
    ("profile", "strict", "message"),
    [
        ({"colour": "red"}, False, "unknown feature 'colour'"),
        ({"style": 3}, False, "'style': 3 is not a string"),
        ({"audience": "teen"}, False, "'audience': 'teen' is not a list"),
        ({"audience": ["teen", "office", "party"]}, False, "more than 2 values"),
        ({"years_open": "3"}, False, "'3' is not a number"),
        ({"style": "grunge"}, True, "'style': unknown value 'grunge'"),
        ({"years_open": 51}, True, "51 is not in"),
        ({"years_open": math.nan}, True, "nan is not in"),
    ],
)
def test_a_bad_profile_is_refused_by_name(
    schema: FeatureSchema, profile: dict[str, object], strict: bool, message: str
) -> None:
    with pytest.raises(FeatureError, match=message.replace("(", r"\(")):
        schema.encode(profile, strict=strict)


def test_the_schema_survives_its_file(schema: FeatureSchema, tmp_path: Path) -> None:
    schema.write(tmp_path / "feature_schema.json")
    assert FeatureSchema.read(tmp_path / "feature_schema.json") == schema
    entries = json.loads((tmp_path / "feature_schema.json").read_text())["features"]
    assert set(entries[2]) == {"name", "kind", "min", "max", "boundaries"}


def test_a_broken_schema_is_refused() -> None:
    with pytest.raises(FeatureError, match="unknown kind"):
        Feature("x", "colour", ("a",))  # type: ignore[arg-type]
    with pytest.raises(FeatureError, match="unique"):
        FeatureSchema((Feature("x", "categorical", ("a",)),) * 2)
    with pytest.raises(FeatureError, match="malformed"):
        FeatureSchema.from_json({"features": [{"name": "x"}], "version": 1})


def test_crossing_is_equation_2_with_full_matrices(schema: FeatureSchema) -> None:
    encoder = UserEncoder(schema, embed_dim=4, n_layers=2)
    features = torch.tensor([schema.encode({"style": "luxury", "audience": ["teen", "party"]})])
    style, audience, years = (embedding.table.weight for embedding in encoder.embeddings)
    v_0 = torch.cat([style[2], (audience[1] + audience[3]) / 2, years[0]])
    v = v_0
    for layer in encoder.layers:
        assert layer.linear.weight.shape == (12, 12)
        v = v_0 * (layer.linear.weight @ v + layer.linear.bias) + v
    torch.testing.assert_close(encoder(features)[0], v)


def test_order_and_padding_of_multiple_values_do_not_matter(schema: FeatureSchema) -> None:
    encoder = UserEncoder(schema)
    rows = torch.tensor([[1, 1, 3, 2], [1, 3, 1, 2], [1, 1, 0, 2], [1, 0, 1, 2], [1, 0, 0, 2]])
    u = encoder(rows)
    torch.testing.assert_close(u[0], u[1])
    torch.testing.assert_close(u[2], u[3])
    assert not torch.allclose(u[2], u[4])


def test_dropping_hides_whole_features(schema: FeatureSchema) -> None:
    rows = torch.tensor([[1, 1, 3, 2]]).repeat(500, 1)
    dropped = drop_features(rows, schema, 0.25, torch.Generator().manual_seed(0))
    assert torch.equal(dropped[:, 1] == 0, dropped[:, 2] == 0)
    assert (dropped[:, [0, 1, 3]] == 0).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(drop_features(rows, schema, 0.0, torch.Generator()), rows)
