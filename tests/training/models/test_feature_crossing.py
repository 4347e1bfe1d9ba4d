"""The crossing of Eq. 2: full matrices, values in any order, and features that are hidden whole."""

import pytest
import torch

from contract.feature_schema import FeatureSchema
from training.models.feature_crossing import UserEncoder, drop_features


def test_crossing_is_equation_2_with_full_matrices(schema: FeatureSchema) -> None:
    encoder = UserEncoder(schema, embed_dim=4, n_layers=2)
    features = torch.tensor([schema.encode({"style": "luxury", "audience": ["teen", "party"]}).slots])
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
