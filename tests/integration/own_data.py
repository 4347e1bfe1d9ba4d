"""A table and a family of another company, made from nothing: garments in four colours, dirt in the table, other sizes.

Picks follow a rule that the tests can check: bold merchants pick red, quiet ones black. Knows tables and families;
nothing about commands or clusters.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image, ImageDraw
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from contract.feature_schema import Feature, FeatureSchema
from contract.vocabulary import PhraseKind, Vocabulary
from training.common.noise import noise_schedule
from training.models.family import FamilyPaths, save_pipeline, save_reward_backbone
from training.models.tokens import encode

GARMENTS, COLOURS = ("dress", "coat"), {"red": "#d02020", "blue": "#2040c0", "green": "#209040", "black": "#181818"}
CLASSES = [(garment, colour) for garment in GARMENTS for colour in COLOURS]
FAVOURITE = {"bold": "red", "quiet": "black"}  # what merchants of a style pick
SIZE_PX, LATENT, CHANNELS, TEXT_WIDTH, CLIP_PX = 128, 32, 6, 24, 48
GROUPS, CLIP_STEPS = 160, 150

SCHEMA = FeatureSchema(
    (
        Feature("style", "categorical", tuple(FAVOURITE)),
        Feature("audience", "multi", ("teen", "office", "party"), max_values=2),
        Feature("years_open", "numeric", min=0, max=50, boundaries=(1, 3, 6)),
    )
)
CHANNEL = Feature("channel", "categorical", ("app", "web"))
WITH_CHANNEL = FeatureSchema((*SCHEMA.features, CHANNEL), version=2)
VOCABULARY = Vocabulary((PhraseKind("category", GARMENTS), PhraseKind("colour", tuple(COLOURS))))

DIRT = {  # what check_table must tell of write_table's dirt, and how many times
    "a picture that cannot be decoded": 1,
    "a picture that its uri does not give": 1,
    "a candidate with neither image nor uri": 1,
    "a group_id is there twice": 1,
    "fewer than two candidates": 1,
    "an empty prompt": 1,
    "a column that is not read": 1,
    "the schema has no feature 'shoe_size'": 1,
    "feature 'audience': something is unknown": 1,
    "feature 'style': something is unknown": 1,
    "a prompt is longer than a model reads": 1,
    "a picture is small": 1,
    "no candidate is selected": 1,
    "all candidates are selected": 1,
    "a group shows one image_id twice": 1,
}
ROWS, LEFT_OUT = GROUPS + 14, 6  # of a table; those that a training cannot use


def picture(garment: str, colour: str, rng: np.random.Generator, side: int = 160) -> Image.Image:
    """A garment on white, a little out of the middle."""
    image = Image.new("RGB", (side, side), "white")
    x, y = rng.integers(-side // 16, side // 16, 2)
    left, top, right, bottom = (side * 5 // 20 + x, side * 3 // 20 + y, side * 15 // 20 + x, side * 17 // 20 + y)
    if garment == "dress":
        corners = [((left + right) // 2, top), (right, bottom), (left, bottom)]
        ImageDraw.Draw(image).polygon([(int(a), int(b)) for a, b in corners], fill=COLOURS[colour])
    else:
        ImageDraw.Draw(image).rectangle((int(left), int(top), int(right), int(bottom)), fill=COLOURS[colour])
    return image


# ---- the table -----------------------------------------------------------------------------------------------------


def write_table(folder: Path, schema: FeatureSchema) -> None:
    """Groups of four colours of one garment; every kind of dirt, one row each."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = [_group(f"g{n}", rng, folder / "photos of clothes", schema) for n in range(GROUPS)]
    rows += _dirt(rng, folder / "photos of clothes", schema)
    for row in rows:
        row["hero_image_id"] = row["candidates"][0]["image_id"]
    pq.write_table(pa.Table.from_pylist(rows), folder / "groups-00000.parquet")
    schema.write(folder / "feature_schema.json")


def write_unusable_table(folder: Path) -> None:
    """What no training starts on: columns of other names, nulls, profiles that are no objects."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    rows = [_group(f"g{n}", rng, folder / "photos", SCHEMA) for n in range(3)]
    rows[0] |= {"features": "luxury"}
    rows[1] |= {"user_id": None}
    renamed = [{"text" if name == "prompt" else name: value for name, value in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), folder / "groups-00000.parquet")
    pq.write_table(pa.Table.from_pylist(renamed), folder / "groups-00001.parquet")
    SCHEMA.write(folder / "feature_schema.json")


def _group(name: str, rng: np.random.Generator, photos: Path, schema: FeatureSchema, **changes: Any) -> dict[str, Any]:
    style, garment = str(rng.choice(list(FAVOURITE))), str(rng.choice(GARMENTS))
    colours = list(rng.permutation(list(COLOURS)))
    profile = {"style": style, "audience": [str(rng.choice(["teen", "office", "party"]))], "years_open": 4}
    if CHANNEL in schema.features:
        profile["channel"] = str(rng.choice(CHANNEL.vocabulary))
    candidates = [_candidate(f"{name}-{c}", garment, str(c), rng, photos, FAVOURITE[style] == c) for c in colours]
    row = {"group_id": name, "user_id": f"merchant-{name}", "prompt": garment, "candidates": candidates}
    return row | {"features": json.dumps(profile | changes.pop("more", {}))} | changes


def _candidate(
    image_id: str, garment: str, colour: str, rng: np.random.Generator, photos: Path, selected: bool
) -> dict[str, Any]:
    """By turns bytes, a path with spaces, a URI with %20; a JPEG that EXIF turns, a PNG with transparency."""
    image, form, buffer = picture(garment, colour, rng), rng.integers(4), io.BytesIO()
    if form == 0:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90° to the right
        image.rotate(90).save(buffer, "JPEG", exif=exif, quality=95)
    elif form == 1:
        clear = np.where((np.asarray(image) == 255).all(-1), 0, 255).astype(np.uint8)
        image.putalpha(Image.fromarray(clear))
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "PNG")
    row = {"image_id": image_id, "selected": selected, "image": None, "uri": None}
    if form == 3:
        return row | {"image": buffer.getvalue()}
    photos.mkdir(exist_ok=True)
    path = photos / f"{image_id} {'jpeg' if form == 0 else 'png'}"
    path.write_bytes(buffer.getvalue())
    return row | {"uri": path.absolute().as_uri() if form else str(path.absolute())}


def _dirt(rng: np.random.Generator, photos: Path, schema: FeatureSchema) -> Iterator[dict[str, Any]]:
    def one(name: str, **changes: Any) -> dict[str, Any]:
        return _group(name, rng, photos, schema, **changes)

    def spoilt(name: str, **changes: Any) -> dict[str, Any]:
        row = one(name)
        row["candidates"][0] |= {"image": None, "uri": None} | changes
        return row

    yield spoilt("undecodable", image=b"\x89PNG\r\n\x1a\n of which nothing follows")
    yield spoilt("out of reach", uri=(photos / "no such.png").absolute().as_uri())
    yield spoilt("nowhere")
    yield one("g0")  # again
    yield one("one alone", candidates=one("one alone")["candidates"][:1])
    yield one("nothing asked", prompt="  ")
    yield one("unknown feature", more={"shoe_size": 43})
    yield one("too many values", more={"audience": ["teen", "office", "party"]})
    yield one("unknown value", more={"style": "baroque"})
    yield one("long", prompt=",".join(["dress", *(f"seam {n} of many" for n in range(60))]))
    small = io.BytesIO()
    picture("dress", "red", rng, 40).save(small, "PNG")
    yield spoilt("small", image=small.getvalue())
    for name, selected in (("none picked", False), ("all picked", True)):
        row = one(name)
        row["candidates"] = [candidate | {"selected": selected} for candidate in row["candidates"]]
        yield row
    twice = one("twice shown")
    twice["candidates"][1]["image_id"] = twice["candidates"][0]["image_id"]
    yield twice


# ---- the family ----------------------------------------------------------------------------------------------------


def write_family(root: Path) -> FamilyPaths:
    """128 pixels, a VAE of factor 4 with 6 channels, text states of 24, a CLIP of 48 pixels that knows colours."""
    torch.manual_seed(0)
    family = FamilyPaths.under(root)
    corpus = [f"{garment},{colour}" for garment, colour in CLASSES] + ["seam of many"]
    tokenizer = CLIPTokenizer(model_max_length=77).train_new_from_iterator(corpus, 560)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
    ids |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    unet = UNet2DConditionModel(
        sample_size=LATENT, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=(8, 16, 16, 32),
        layers_per_block=2, cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16), layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=4,
        sample_size=SIZE_PX, scaling_factor=0.3,
    )  # fmt: skip
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    text = CLIPTextModel(CLIPTextConfig(**ids, **tower, hidden_size=TEXT_WIDTH))
    save_pipeline(family.pipeline, unet, vae, text, tokenizer, noise_schedule())
    vision = tower | {"hidden_size": 32, "image_size": CLIP_PX, "patch_size": 12}
    clip = CLIPModel(CLIPConfig(text_config=tower | ids | {"hidden_size": 32}, vision_config=vision, projection_dim=20))
    mean, std = (0.8, 0.7, 0.7), (0.3, 0.3, 0.3)
    teach(clip, tokenizer, np.asarray(mean), np.asarray(std))
    save_reward_backbone(family.reward, clip, tokenizer, mean, std)
    SCHEMA.write(family.feature_schema)
    VOCABULARY.write(family.phrases)
    return family


def teach(clip: CLIPModel, tokenizer: CLIPTokenizer, mean: np.ndarray, std: np.ndarray) -> None:
    """Which words say which garment and colour: CLIP's contrastive loss, over all classes and over garments alone."""
    rng, optimizer = np.random.default_rng(0), torch.optim.AdamW(clip.parameters(), 2e-3)
    whole, garments = _ids(tokenizer, [",".join(one) for one in CLASSES]), _ids(tokenizer, GARMENTS)
    of_garment = torch.tensor([GARMENTS.index(garment) for garment, _ in CLASSES])
    for _ in range(CLIP_STEPS):
        drawn = [picture(garment, colour, rng).resize((CLIP_PX, CLIP_PX)) for garment, colour in CLASSES]
        pixels = (np.stack([np.asarray(image) / 255 for image in drawn]) - mean) / std  # (8, H, W, 3)
        seen = clip.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2).float())
        seen = F.normalize(_pooled(seen), dim=-1)
        loss = torch.zeros(())
        for ids, target in ((whole, torch.arange(len(CLASSES))), (garments, of_garment)):
            said = F.normalize(_pooled(clip.get_text_features(ids)), dim=-1)
            loss = loss + F.cross_entropy(clip.logit_scale.exp() * seen @ said.T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    clip.eval().requires_grad_(False)


def _ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(encode(tokenizer, texts))


def _pooled(output: Any) -> torch.Tensor:
    found: torch.Tensor = getattr(output, "pooler_output", output)  # by the library's version a tensor or its holder
    return found
