"""Personal parts whose output depends on the profile, as after a training: untrained ones add nothing."""

from typing import TypeVar

from torch import nn

from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.plugin import AdaptiveNetwork

M = TypeVar("M", bound=nn.Module)


def make_loud(model: M, std: float = 0.05) -> M:
    """Give the layers that start at zero some weights, as training would."""
    for module in model.modules():
        if isinstance(module, AdaptiveNetwork):
            nn.init.normal_(module[-1].weight, std=std)
        if isinstance(module, PersonalisedAdaptiveNetwork):
            for conv in module.zero_convs():
                nn.init.normal_(conv.weight, std=std)
    return model
