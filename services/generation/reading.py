"""What a release's models do not read of a round's prompts. It knows whose prompts are read by which model."""

from dataclasses import dataclass

from services.generation.orders import Group, Order, Unread
from services.runtime.errors import FailedPrecondition
from services.runtime.release import Releases
from services.runtime.tokens import Tokenizers


@dataclass(frozen=True)
class Reader:
    """Reads prompts again, so that nothing about them needs to be stored with a group."""

    releases: Releases
    tokenizers: Tokenizers

    def unread(self, asked: Order | Group, release_number: int) -> Unread:
        """Of the prompt by the text encoder or the reward model, of the negative prompt by the text encoder.

        Nothing where the release, which made the group long ago, is no longer there.
        """
        try:
            release = self.releases.get(release_number)
        except FailedPrecondition:
            return Unread()
        [prompt] = self.tokenizers.unread(release, [asked.prompt])
        return Unread(prompt, self.tokenizers.generator(release).unread(asked.negative_prompt))
