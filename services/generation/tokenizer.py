"""Prompts to token ids, with each release's own tokenizers, read once each."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.release import Release
from services.runtime.tokens import PromptTokenizer


class Tokenizers:
    """Both tokenizers of every release met so far."""

    def __init__(self) -> None:
        self._known: dict[Path, PromptTokenizer] = {}

    def generator_ids(self, release: Release, prompts: list[str]) -> NDArray[np.int64]:
        """For the text encoder  # (B, 77)"""
        return self._ids(release.tokenizer_file, release.text_tokens, prompts)

    def reward_ids(self, release: Release, prompts: list[str]) -> NDArray[np.int64]:
        """For the reward model's text tower  # (B, 77)"""
        return self._ids(release.reward_tokenizer_file, release.text_tokens, prompts)

    def _ids(self, file: Path, num_tokens: int, prompts: list[str]) -> NDArray[np.int64]:
        if file not in self._known:
            self._known[file] = PromptTokenizer(file.read_text(encoding="utf-8"), num_tokens)
        return np.stack([self._known[file].encode(prompt) for prompt in prompts])
