"""A schema with a feature of each kind."""

import pytest

from contract.feature_schema import Feature, FeatureSchema


@pytest.fixture
def schema() -> FeatureSchema:
    return FeatureSchema(
        (
            Feature("style", "categorical", ("minimalist", "luxury")),
            Feature("audience", "multi", ("teen", "office", "party"), max_values=2),
            Feature("years_open", "numeric", min=0, max=50, boundaries=(1, 3, 6)),
        )
    )
