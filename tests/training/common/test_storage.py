"""Weights on disk: half precision, strict loading, and one line that names what does not fit."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from training.common.errors import WeightsError
from training.common.storage import (
    check_origin,
    fingerprint,
    load_pretrained,
    load_weights,
    origin_of,
    read_config,
    save_weights,
    write_origin,
)


def saved(layer: nn.Linear, directory: Path) -> Path:
    save_weights(directory, "layer.safetensors", {"width": 3}, layer.state_dict())
    return directory / "layer.safetensors"


def test_weights_come_back_to_half_precision_with_their_configuration(tmp_path: Path) -> None:
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    load_weights(other, {"weight", "bias"}, saved(layer, tmp_path))
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, layer.weight.half().float())
    assert read_config(tmp_path) == {"width": 3}
    assert fingerprint(other) == fingerprint(layer)  # which reads them as they lie on disk
    with torch.no_grad():
        other.bias[0] += 1
    assert fingerprint(other) != fingerprint(layer)


def test_what_is_not_finite_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    path = saved(layer, tmp_path)
    nn.init.constant_(layer.bias, torch.inf)
    with pytest.raises(WeightsError, match="refusing to save .*: bias is not finite"):
        saved(layer, tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    nn.init.constant_(layer.bias, 1e6)  # which half precision cannot hold
    saved(layer, tmp_path)
    with pytest.raises(WeightsError, match=r"layer\.safetensors: bias is not finite"):
        load_weights(nn.Linear(3, 2), {"weight", "bias"}, path)


def test_weights_of_another_module_are_refused_by_what_differs(tmp_path: Path) -> None:
    path = saved(nn.Linear(3, 2), tmp_path)
    with pytest.raises(WeightsError, match=r"weight is \(2, 3\), expected \(2, 4\)"):
        load_weights(nn.Linear(4, 2), {"weight", "bias"}, path)
    with pytest.raises(WeightsError, match=r"does not hold this model's parameters; differing: \['bias'\]"):
        load_weights(nn.Linear(3, 2, bias=False), {"weight"}, path)
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors is missing"):
        load_weights(nn.Linear(3, 2), {"weight", "bias"}, tmp_path / "nowhere.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(WeightsError, match=r"layer\.safetensors cannot be read"):
        load_weights(nn.Linear(3, 2), {"weight", "bias"}, path)


def test_a_configuration_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        read_config(tmp_path)


def test_a_librarys_model_is_loaded_frozen_and_never_filled_with_random_numbers(tmp_path: Path) -> None:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = CLIPTextModel(CLIPTextConfig(vocab_size=10, **shape))
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(CLIPTextModel, tmp_path, dtype=torch.float32)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(WeightsError, match="does not hold its model's parameters; missing: "):
        load_pretrained(CLIPTextModel, tmp_path, dtype=torch.float32)


def test_weights_are_used_on_the_backbone_that_they_say_alone(tmp_path: Path) -> None:
    ours, other = nn.Linear(3, 2), nn.Linear(3, 2)
    check_origin(tmp_path, origin_of(other))  # nothing is said
    write_origin(tmp_path, origin_of(ours))
    check_origin(tmp_path, origin_of(ours))
    trained, given = fingerprint(ours), fingerprint(other)
    with pytest.raises(WeightsError, match=f"trained on the backbone {trained} .*, and {given} .* is given"):
        check_origin(tmp_path, origin_of(other))
    write_origin(tmp_path, origin_of(ours) | {"tokenizer": "a"})
    check_origin(tmp_path, origin_of(ours) | {"text_encoder": "b"})  # what either does not say
    with pytest.raises(WeightsError, match="was trained on the tokenizer a, and c is given"):
        check_origin(tmp_path, {"tokenizer": "c"})
    (tmp_path / "origin.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"origin\.json cannot be read"):
        check_origin(tmp_path, origin_of(ours))
