"""A U-Net taken apart at its middle: not a bit changes, and other topologies are refused by what differs."""

from pathlib import Path

import pytest
import torch

from tests.training.loud import make_loud
from training.common.errors import TopologyError
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.frozen_unet import check_topology, decode, encode, load_unet


def test_taking_the_unet_apart_changes_no_bit(unet, schema) -> None:
    torch.manual_seed(1)
    z, t, text = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999]), torch.randn(3, 77, 12)
    encoded = encode(unet, z, t, text)
    assert torch.equal(decode(unet, encoded), unet(z, t, text).sample)
    network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
    added = network(z, t, text, torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4], [0, 0, 0, 0]]))
    whole = unet(
        z,
        t,
        text,
        down_block_additional_residuals=added.skips,
        mid_block_additional_residual=added.middle,
    ).sample
    assert torch.equal(decode(unet, encoded, added), whole)


@pytest.mark.parametrize("sides", [(8, 12), (10, 6)])
def test_sides_that_do_not_halve_evenly_work_as_in_the_unet(unet, sides: tuple[int, int]) -> None:
    z, t, text = torch.randn(1, 4, *sides), torch.tensor([3]), torch.randn(1, 77, 12)
    assert torch.equal(decode(unet, encode(unet, z, t, text)), unet(z, t, text).sample)


def test_a_unet_of_another_topology_is_refused_by_what_differs(make_unet, tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="layers_per_block is 1"):
        check_topology(make_unet(layers_per_block=1))
    with pytest.raises(TopologyError, match="class_embed_type"):
        check_topology(make_unet(class_embed_type="timestep"))
    with pytest.raises(TopologyError, match="no config.json"):
        load_unet(tmp_path)


def test_a_saved_unet_loads_frozen(unet, tmp_path: Path) -> None:
    unet.save_pretrained(tmp_path)
    assert not any(p.requires_grad for p in load_unet(tmp_path).parameters())
