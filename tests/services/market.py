"""A release on disk, small enough to read at a glance: what the services need to know of one, without its models."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from contract import release as files
from contract.feature_schema import Feature, FeatureSchema
from contract.history import HISTORY, Population
from contract.labels import Labels
from contract.release import Defaults, Manifest, NoiseSchedule, Release, Sizes, SizesInUse, release_dir
from contract.vocabulary import PhraseKind, Vocabulary

IMAGE_SIZE_PX, USER_WIDTH, REWARD_WIDTH, TEXT_TOKENS, TEXT_WIDTH, LOGIT_SCALE = 16, 4, 8, 16, 8, 50.0
PADDED_SLOTS, PADDED_PHRASES = 8, 16  # more than this release uses of them

SCHEMA = FeatureSchema(
    (
        Feature("style", "categorical", ("minimalist", "luxury", "boho")),
        Feature("audience", "multi", ("teens", "women", "men", "kids"), max_values=3),
        Feature("years_open", "numeric", min=0, max=50, boundaries=(1, 3, 6)),
    )
)
VOCABULARY = Vocabulary(
    (
        PhraseKind("category", ("dress", "trousers"), labels=(Labels("zh", "品类", ("连衣裙", "长裤")),)),
        PhraseKind(
            "sleeve",
            ("sleeveless", "long sleeves", "bell sleeves"),
            only_with=(("dress",),),
            labels=(Labels("zh", "袖型", ("无袖", "长袖", "喇叭袖")),),
        ),
        PhraseKind("detail", ("sequins", "hand-sewn ruffles"), labels=(Labels("zh", "细节", ("亮片", "手工荷叶边")),)),
    )
)
SLOTS, PHRASES = SCHEMA.n_slots, len(VOCABULARY.phrases)  # 5, 7


def population_of(vocabulary: Vocabulary = VOCABULARY, mean: float = 0.0) -> Population:
    """Merchants who vary alike in all phrases of a kind, profiles that leave half of it open."""
    centred = np.eye(len(vocabulary.phrases))
    for start, size in zip(np.cumsum([0, *vocabulary.sizes[:-1]]), vocabulary.sizes, strict=True):
        centred[start : start + size, start : start + size] -= 1 / size
    return Population(np.full(len(centred), mean), centred, centred / 2)


def write_release(
    model_repository: Path,
    number: int,
    *,
    current: bool = True,
    schema: FeatureSchema = SCHEMA,
    vocabulary: Vocabulary = VOCABULARY,
    population: Population | None = None,
) -> Release:
    """Adds a release, by default the one in service."""
    directory = release_dir(model_repository, number)
    directory.mkdir(parents=True)
    (directory / files.MANIFEST).write_text(json.dumps(_manifest(number, schema, vocabulary).to_json()))
    schema.write(directory / files.FEATURE_SCHEMA)
    vocabulary.write(directory / files.PHRASES)
    if population is not None:
        (directory / HISTORY).write_text(population.to_text())
    for name in (files.TOKENIZER, files.REWARD_TOKENIZER):
        _tokenizer(number).save(str(directory / name))
    if current:
        files.current_file(model_repository).write_text(str(number))
    return files.read_release(directory)


def release_of(number: int = 1) -> Release:
    """The same release where no file of it is read."""
    nowhere = Path("nowhere")
    return Release(_manifest(number), SCHEMA, VOCABULARY, nowhere / files.TOKENIZER, nowhere / files.REWARD_TOKENIZER)


def _manifest(number: int, schema: FeatureSchema = SCHEMA, vocabulary: Vocabulary = VOCABULARY) -> Manifest:
    return Manifest(
        release=number,
        source_commit="0" * 40,
        create_time="2026-01-02T03:04:05Z",
        weights={},
        models={},
        sizes=Sizes(
            image_size_px=IMAGE_SIZE_PX,
            latent_channels=4,
            latent_size=2,
            text_tokens=TEXT_TOKENS,
            text_width=TEXT_WIDTH,
            feature_slots=PADDED_SLOTS,
            phrases=PADDED_PHRASES,
            generator_user_width=USER_WIDTH,
            reward_user_width=USER_WIDTH,
            reward_width=REWARD_WIDTH,
        ),
        in_use=SizesInUse(
            feature_slots=schema.n_slots,
            phrases=len(vocabulary.phrases),
            generator_user_width=USER_WIDTH,
            reward_user_width=USER_WIDTH,
        ),
        noise_schedule=NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon"),
        reward_logit_scale=LOGIT_SCALE,
        defaults=Defaults(guidance_scale=4.0, adapter_scale=1.0, num_steps=20, sampler="ddim"),
    )


def _tokenizer(number: int) -> Tokenizer:
    """The same words in each release, in another order."""
    words = ["red", "dress", "sleeveless", ","]
    first = (number - 1) % len(words)
    words = ["<|startoftext|>", "<|endoftext|>", "[unk]", *words[first:], *words[:first]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    )
    return tokenizer
