"""Fields are checked in one go, and each wrong one is named."""

import pytest

from services.runtime.errors import InvalidArgument
from services.runtime.fields import Fields

ID = "6F1D9B1E-0000-4000-8000-00000000000A"


def test_good_fields_pass_and_ids_become_lower_case() -> None:
    fields = Fields()
    assert fields.uuid(ID, "id") == ID.lower()
    assert fields.user_id("shop ☂") == "shop ☂" and fields.prompt("dress") == "dress" and fields.release(0) == 0
    assert fields.text("", "prefix", most=3) == ""
    fields.done()


def test_every_wrong_field_is_named_in_order() -> None:
    fields = Fields()
    fields.uuid(f"{{{ID}}}", "id")
    fields.user_id("")
    fields.prompt(" , ,")
    fields.text("four", "prefix", most=3)
    fields.text("a\0b", "phrase", most=3)
    fields.release(-1)
    with pytest.raises(InvalidArgument) as refused:
        fields.done()
    assert [field for field, _ in refused.value.violations] == [
        "id",
        "user_id",
        "prompt",
        "prefix",
        "phrase",
        "release",
    ]


@pytest.mark.parametrize(
    "prompt", ["", "，、", "\u200b\ufeff,\u2060", "\n\t\u3000\u2800", "\x07", "x" * 1001, ",," * 10**6]
)
def test_a_prompt_has_a_phrase_and_is_not_too_long(prompt: str) -> None:
    fields = Fields()
    fields.prompt(prompt, "text")
    with pytest.raises(InvalidArgument) as refused:
        fields.done()
    assert [field for field, _ in refused.value.violations] == ["text"]
