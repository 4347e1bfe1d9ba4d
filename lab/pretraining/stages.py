"""The stages in which the tiny family is trained, each on the results of those before.

`python -m lab.tiny` is the command, and says their order. Knows what each trains, and where its result lies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from contract.feature_schema import FeatureSchema
from lab.market.drawing import SIZE_PX
from lab.market.prompts import vocabulary
from lab.market.table import MarketRecipe, industrial, schema_of, write_market
from lab.pretraining import train_clip, train_diffusion, train_tokenizer, train_vae
from lab.recogniser import train as train_recogniser
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.common.errors import ModelError
from training.common.noise import noise_schedule
from training.common.storage import write_origin
from training.data.groups import GroupTensors
from training.data.load import with_latents
from training.data.prepare import prepare
from training.generator.recipes import tiny
from training.generator.training import train_stage
from training.models.family import TINY, FamilyPaths, save_pipeline, save_reward_backbone
from training.models.frozen_unet import load_unet
from training.reward.models import Starts
from training.reward.recipes import tiny as reward_recipe
from training.reward.training import train as train_reward
from training.wishes.training import train as train_wishes

GATE = 0.97  # the judge's accuracy on reconstructions, for every attribute kind
MARKET = MarketRecipe(groups=16_000)  # what the generator is aligned on
WISHED = MarketRecipe(groups=64_000)  # training data of the preference weights


class GateError(ModelError):
    """The VAE loses details that taste depends on: no generator is trained on its latents."""


@dataclass
class Workshop:
    """The stages, in order; each method trains one and leaves its result under `work`."""

    work: Path
    family: FamilyPaths
    root: Path
    below_gate: bool = False  # whether a VAE that misses the gate is used all the same
    start: FamilyPaths | None = None  # published weights to go on from

    # ---- the stages ------------------------------------------------------------------------

    def tokenizer(self) -> None:
        """The byte-pair tokenizer; going on from weights, theirs, whose ids their embeddings know."""
        tokenizer = self.start.tokenizer() if self.start else train_tokenizer.train()
        tokenizer.save_pretrained(self.work / "tokenizer")

    def judge(self) -> None:
        """The attribute recogniser, and the perceptual network of the VAE's loss."""
        train_recogniser.train(train_recogniser.perceptual(), self.work / "perceptual", self.data)
        judge = train_recogniser.train(train_recogniser.judge(), self.work / "judge", self.data)
        judge.save(self.judge_dir)
        _copy_files(self.work / "judge", self.judge_dir, "accuracy.json")

    def vae(self) -> None:
        """The VAE in two phases, and its gate."""
        perceptual = train_recogniser.train(train_recogniser.perceptual(), self.work / "perceptual", self.data).net
        if self.start:
            sketch = self.start.vae().requires_grad_(True)
        else:
            sketch = train_vae.train(train_vae.sketch(), perceptual, self.work / "vae", self.data)
            sketch.save_pretrained(self.work / "vae" / "model")
        vae = train_vae.train(train_vae.polish(), perceptual, self.work / "vae-polish", self.data, sketch)
        accuracy = train_vae.gate(vae, self.trained_judge, self.work / "vae-polish", self.data)
        vae.save_pretrained(self.work / "vae-polish" / "model")
        low = {kind: round(share, 3) for kind, share in accuracy.items() if share < GATE}
        if low and not self.below_gate:
            raise GateError(f"the judge reads reconstructions below {GATE}: {low}; --below-gate goes on all the same")

    def diffusion(self) -> None:
        """The U-Net and the text encoder, in two phases."""
        recipe, start = train_diffusion.DiffusionRecipe(), None
        if self.start:
            recipe = train_diffusion.continued()
            start = train_diffusion.TextToNoise(self.start.unet(), self.start.text_encoder()).requires_grad_(True)
        model = train_diffusion.train(
            recipe, self.trained_tokenizer, self.trained_vae,
            self.trained_judge, self.work / "diffusion", self.data, start,
        )  # fmt: skip
        model = train_diffusion.train(
            train_diffusion.details(), self.trained_tokenizer, self.trained_vae,
            self.trained_judge, self.work / "diffusion-details", self.data, model,
        )  # fmt: skip
        model.unet.save_pretrained(self.work / "diffusion" / "unet")
        model.text_encoder.save_pretrained(self.work / "diffusion" / "text_encoder")
        save_pipeline(
            self.family.pipeline,
            UNet2DConditionModel.from_pretrained(self.work / "diffusion" / "unet"),
            self.trained_vae,
            CLIPTextModel.from_pretrained(self.work / "diffusion" / "text_encoder"),
            self.trained_tokenizer,
            noise_schedule(),
        )
        self.schema.write(self.family.feature_schema)
        vocabulary().write(self.family.phrases)

    def generator(self) -> None:
        """The U-Net aligned by Diffusion-DPO, which draws."""
        groups = with_latents(self.groups, self.family.vae(), self.data / "prepared")  # the VAE as published
        train_stage(tiny("dpo"), groups, self.family, self.work / "generator")
        load_unet(self.work / "generator" / "unet").half().save_pretrained(self.family.backbone)
        write_origin(self.family.backbone, self.family.generator_origin())

    def clip(self) -> None:
        """The CLIP model that stands in PickScore's place."""
        clip = train_clip.train(train_clip.ClipRecipe(), self.trained_tokenizer, self.work / "clip", self.data)
        mean, std = train_clip.IMAGE_MEAN, train_clip.IMAGE_STD
        save_reward_backbone(self.family.reward, clip, self.trained_tokenizer, mean, std)

    def wishes(self) -> None:
        """The preference weights, from the picks on pictures that the CLIP model reads."""
        write_market(self.wished_table, WISHED)
        train_wishes(self.wished_table, self.family, self.work / "wishes")
        _copy_files(self.work / "wishes" / "preferences", self.family.preferences)

    def reward(self) -> None:
        """PerFusionRM's plug-ins."""
        clip = self.family.clip()
        starts, preprocess = Starts(clip, tokenizer=self.family.reward_tokenizer()), self.family.preprocess(clip)
        train_reward(reward_recipe(), self.rounds, starts, preprocess, self.work / "reward")
        _copy_files(self.work / "reward" / "perfusion_rm", self.family.perfusion_rm)

    # ---- results of earlier stages ---------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def schema(self) -> FeatureSchema:
        return schema_of(MARKET)

    @property
    def trained_tokenizer(self) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(self.work / "tokenizer")

    @property
    def trained_judge(self) -> Recogniser:
        return Recogniser.load(self.judge_dir)

    @property
    def judge_dir(self) -> Path:
        """The judge's published path: beside its code, or with a family that is published elsewhere."""
        return JUDGE if self.root == TINY else self.root / "recogniser"

    @property
    def trained_vae(self) -> AutoencoderKL:
        return AutoencoderKL.from_pretrained(self.work / "vae-polish" / "model").eval()

    @property
    def table(self) -> Path:
        """The path of the generator's rounds."""
        return self.data / f"market-{MARKET.groups}"

    @property
    def wished_table(self) -> Path:
        """The path of the preference weights' rounds."""
        return self.data / f"market-{WISHED.groups}"

    @cached_property
    def groups(self) -> GroupTensors:
        """Rounds of the market, with pictures, for the generator."""
        write_market(self.table, MARKET)
        return prepare(self.table, self.data / "prepared", self.trained_tokenizer, SIZE_PX)

    @cached_property
    def rounds(self) -> GroupTensors:
        """The industrial set, for the reward model."""
        write_market(self.data / "industrial", industrial())
        return prepare(self.data / "industrial", self.data / "prepared", self.trained_tokenizer, SIZE_PX)


def _copy_files(source: Path, target: Path, pattern: str = "*") -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob(pattern):
        (target / path.name).write_bytes(path.read_bytes())


def run(workshop: Workshop, stages: Sequence[str]) -> None:
    """Runs those of the first stages that are not marked as done."""
    for number, name in enumerate(stages, start=1):
        done = workshop.work / f"{name}.done"
        stage: Callable[[], None] = getattr(workshop, name)
        if done.exists():
            print(f"[{number}/{len(stages)}] {name}: done before")
            continue
        print(f"[{number}/{len(stages)}] {name}: {stage.__doc__}", flush=True)
        stage()
        done.touch()
