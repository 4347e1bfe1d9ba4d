"""The form's content, and the request that it becomes."""

from contextlib import suppress
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfusion.v1.group_pb2 import Candidate, GenerationSettings, Group

from services.runtime.errors import InvalidArgument
from services.studio.drafts import Draft, of_form, of_group, of_request, parts_of, request_of

ID = "123e4567-e89b-12d3-a456-426614174000"
START = Draft(num_candidates=5, num_steps=20)


def test_a_form_becomes_a_request_and_a_form_again() -> None:
    form = {
        "prompt": ["dress,v-neck"],
        "negative_prompt": ["stripes"],
        "num_candidates": ["3"],
        "num_steps": ["10"],
        "personalise": ["0"],
        "variety": ["0.5"],
        "seed": ["7"],
        "refused_wishes": ["sequins", "belted", "sequins"],
    }
    draft = of_form(form, START)
    request = request_of(draft, str(uuid4()), "store-1", b"")
    assert (request.user_id, request.prompt, request.negative_prompt) == ("store-1", "dress,v-neck", "stripes")
    assert (request.num_candidates, request.num_steps, request.seed) == (3, 10, 7)
    assert request.adapter_scale == 0
    assert list(request.refused_wishes) == ["sequins", "belted"]
    assert not request.HasField("strength")
    assert of_request(request) == draft


def test_personalisation_is_the_platforms_own_default_unless_it_is_switched_off() -> None:
    draft = of_form({"prompt": ["dress"], "personalise": ["0", "1"]}, START)  # the checkbox beside its hidden field
    request = request_of(draft, str(uuid4()), "store-1", b"")
    assert not request.HasField("adapter_scale")
    assert not request.HasField("variety")


def test_each_request_has_a_seed_of_its_own_so_that_a_second_try_draws_the_same() -> None:
    seeds = {request_of(Draft(prompt="dress"), str(uuid4()), "store-1", b"").seed for _ in range(20)}
    assert len(seeds) == 20


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_candidates", "x"), ("num_candidates", "-1"), ("num_candidates", "1.5"), ("num_candidates", "9" * 20)]
    + [("num_steps", "9" * 12), ("seed", "9" * 19), ("seed", "１２"), ("variety", "a lot"), ("strength", "0x1")],
)
def test_what_is_no_number_is_named(field: str, value: str) -> None:
    form = {"prompt": ["dress"], field: [value]}
    if (field, value) == ("seed", "１２"):  # full-width digits are digits
        assert of_form(form, START).seed == 12
        return
    with pytest.raises(InvalidArgument) as refused:
        request_of(of_form(form, START), str(uuid4()), "store-1", b"")
    assert [name for name, _ in refused.value.violations] == [field]


@given(st.dictionaries(st.sampled_from([*vars(START), "else"]), st.lists(st.text(max_size=30), max_size=3)))
def test_any_form_is_a_request_or_names_its_fields(form: dict[str, list[str]]) -> None:
    with suppress(InvalidArgument):
        request = request_of(of_form(form, START), str(uuid4()), "store-1", b"x")
        assert of_request(request).num_candidates == request.num_candidates


def test_a_group_is_refined_with_what_it_was_made_of() -> None:
    settings = GenerationSettings(num_steps=12, adapter_scale=1.0, seed=5, refused_wishes=["belted"])
    group = Group(prompt="dress", candidates=[Candidate(), Candidate()], settings=settings)
    assert of_group(group) == Draft(
        prompt="dress", num_candidates=2, num_steps=12, personalise=True, refused_wishes=("belted",)
    )


@pytest.mark.parametrize("like", ["", "x", "/", f"{ID}/", f"{ID}/../{ID}", f"{ID}/{ID}/x"])
def test_a_picture_to_start_from_is_named_by_two_ids(like: str) -> None:
    with pytest.raises(InvalidArgument):
        parts_of(like)
