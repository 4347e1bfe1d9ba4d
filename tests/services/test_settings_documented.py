"""Every setting of every service stands in docs/serving.md, under the name it has in the environment."""

from pathlib import Path

import pytest

from services.feedback.settings import Settings as Feedback
from services.generation.settings import Settings as Generation
from services.ranking.settings import Settings as Ranking
from services.user_embedding.settings import Settings as UserEmbedding

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()


@pytest.mark.parametrize("settings", [Feedback, Generation, Ranking, UserEmbedding], ids=lambda s: s.__module__)
def test_each_setting_is_documented(settings: type[Feedback]) -> None:
    for name, field in settings.model_fields.items():
        assert f"| `PERFUSION_{name.upper()}` | {field.description} |" in PAGE
