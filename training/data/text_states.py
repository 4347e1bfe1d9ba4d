"""Text states of prompts from a frozen text encoder, each distinct prompt encoded once.

Knows token ids and the encoder; nothing about the states' use.
"""

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTextModel

from training.data.groups import GroupError

CACHE_BYTES = 4 << 30  # above this, prompts are encoded again each time instead of kept


class TextStates:
    """input_ids (N, V, 77) → states (77, D) of any wording, in half precision while kept."""

    def __init__(self, text_encoder: CLIPTextModel, input_ids: np.ndarray, device: torch.device) -> None:
        n, v, tokens = input_ids.shape
        config = text_encoder.config
        if input_ids.size and not 0 <= input_ids.min() <= input_ids.max() < config.vocab_size:
            found = f"{input_ids.min()} to {input_ids.max()}"
            raise GroupError(f"input_ids are {found}, but the text encoder knows {config.vocab_size} tokens")
        if tokens > config.max_position_embeddings:
            raise GroupError(
                f"prompts are {tokens} tokens long, the text encoder reads {config.max_position_embeddings}"
            )
        self.encoder, self.device = text_encoder.to(device), device
        unique, inverse = np.unique(input_ids.reshape(n * v, tokens), axis=0, return_inverse=True)
        self.unique = torch.from_numpy(unique)  # (U, 77)
        self.index = inverse.reshape(n, v)  # (N, V) → row of `unique`
        width = config.hidden_size
        self.keeps = len(unique) * tokens * width * 2 <= CACHE_BYTES
        self.states = torch.empty(len(unique) if self.keeps else 0, tokens, width, dtype=torch.float16)
        self.known = np.zeros(len(unique), dtype=bool)

    def of(self, rows: np.ndarray, wordings: np.ndarray) -> Tensor:
        """States (B, 77, D) of group rows[i] in wording wordings[i], float32."""
        wanted = self.index[rows, wordings]  # (B,)
        if not self.keeps:
            return self.encode(self.unique[wanted])
        missing = np.unique(wanted[~self.known[wanted]])
        if len(missing):
            self.states[missing] = self.encode(self.unique[missing]).half().cpu()
            self.known[missing] = True
        return self.states[wanted].to(self.device, torch.float32)

    @torch.no_grad()
    def encode(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.encoder(input_ids=input_ids.to(self.device)).last_hidden_state
        return states
