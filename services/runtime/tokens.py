"""The tokenizers of releases, and what a release's models do not read of a prompt.

Knows which tokenizer is whose; contract/tokens.py knows how a prompt is read. Does not know a prompt's meaning, nor the
use of its tokens.
"""

from collections.abc import Sequence
from pathlib import Path

from contract.prompts import phrases_of
from contract.release import Release
from contract.tokens import PromptTokenizer


class Tokenizers:
    """Both tokenizers of every release used so far, each file read once."""

    def __init__(self) -> None:
        self._known: dict[Path, PromptTokenizer] = {}

    def generator(self, release: Release) -> PromptTokenizer:
        """For the text encoder."""
        return self._of(release.tokenizer_file, release.sizes.text_tokens)

    def reward(self, release: Release) -> PromptTokenizer:
        """For the reward model's text tower."""
        return self._of(release.reward_tokenizer_file, release.sizes.text_tokens)

    def unread(self, release: Release, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        """Of each prompt the phrases that the text encoder or the reward model does not read."""
        both = self.generator(release).readings(prompts), self.reward(release).readings(prompts)
        return [_in_order(prompt, {*g.unread, *r.unread}) for prompt, g, r in zip(prompts, *both, strict=True)]

    def _of(self, file: Path, num_tokens: int) -> PromptTokenizer:
        if file not in self._known:
            self._known[file] = PromptTokenizer(file.read_text(encoding="utf-8"), num_tokens)
        return self._known[file]


def _in_order(prompt: str, phrases: set[str]) -> tuple[str, ...]:
    return tuple(phrase for phrase in dict.fromkeys(phrases_of(prompt)) if phrase in phrases) if phrases else ()
