"""What a release's models do not read of a round's prompts. It knows whose prompts are read by which model."""

from dataclasses import dataclass

from contract.release import Release
from contract.vocabulary import Vocabulary
from services.generation.orders import Group, Order, Unread
from services.runtime.errors import FailedPrecondition, Unavailable
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
        labels = self._labels(release)
        negative = self.tokenizers.generator(release).unread(labels.canonical(asked.negative_prompt))
        return Unread(self.of_prompt(asked.prompt, release, labels), labels.typed(asked.negative_prompt, negative))

    def of_prompt(self, prompt: str, release: Release, labels: Vocabulary) -> tuple[str, ...]:
        """The prompt's phrases, as they are typed, that the release's text encoder or reward model does not read."""
        [unread] = self.tokenizers.unread(release, [labels.canonical(prompt)])
        return labels.typed(prompt, unread)

    def _labels(self, release: Release) -> Vocabulary:
        """Those that rounds are read by (services/generation/assigning.py): the live release's, or else its own."""
        try:
            return self.releases.current().vocabulary
        except Unavailable:
            return release.vocabulary
