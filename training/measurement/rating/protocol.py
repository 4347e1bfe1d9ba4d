"""The protocol of a rating: what is asked, how it is shown, and how it will be analysed. It is fixed before anyone
rates.

The six aspects and the three-tier scale are those of the paper (§6.1). Its "Overall" is not the mean of its six rows,
and it does not say what it is; ours is defined in OVERALL. Knows words and numbers; no pictures and no raters.
"""

from dataclasses import asdict, dataclass
from typing import Any

from training.measurement.errors import MeasurementError

SCALE = (0, 1, 2)  # poor, average, good
OVERALL = "the mean of the six aspects' mean scores; its ratio is the ratio of these means"
ORIGIN_ANSWERS = ("ai", "human", "unsure")
ORIGIN_QUESTION = "Was this picture made by an AI, or designed and photographed by people?"


@dataclass(frozen=True)
class Aspect:
    """One thing that is rated."""

    name: str
    question: str
    anchors: tuple[str, str, str]  # what 0, 1 and 2 mean


ASPECTS = (
    Aspect(
        "material_quality",
        "Does the fabric look like a real material of good quality?",
        (
            "poor: no fabric that exists, or smeared and plastic",
            "average: a plausible fabric without depth",
            "good: weave, drape and light as of a real, good fabric",
        ),
    ),
    Aspect(
        "model_realism",
        "Does the person who wears it look real?",
        (
            "poor: face, hands or body are malformed",
            "average: right at a glance, odd on a closer look",
            "good: as photographed; where nobody wears it, the form that carries it",
        ),
    ),
    Aspect(
        "craft_design",
        "Could this be sewn, and is it well made?",
        (
            "poor: seams, closures or hems that cannot be made",
            "average: can be made, with details that do not fit together",
            "good: construction is clear, sound and finished",
        ),
    ),
    Aspect(
        "pattern_appropriateness",
        "Does the pattern suit the garment?",
        (
            "poor: broken, stretched or out of place",
            "average: acceptable, not matched at seams or in scale",
            "good: scale, placement and repeat suit the garment; plain fabric is rated as a pattern",
        ),
    ),
    Aspect(
        "design_aesthetics",
        "Is the design as a whole attractive?",
        (
            "poor: would not be shown",
            "average: would be shown, does not stand out",
            "good: would be chosen for the front page",
        ),
    ),
    Aspect(
        "color_coordination",
        "Do the colours go together?",
        (
            "poor: they clash, or bleed into each other",
            "average: acceptable",
            "good: they support the design",
        ),
    ),
)
NAMES = tuple(aspect.name for aspect in ASPECTS)


@dataclass(frozen=True)
class Protocol:
    """The numbers that are fixed before the first rating."""

    raters_per_picture: int = 3
    repeat_share: float = 0.08  # of a rater's pictures, shown a second time
    repeat_gap: int = 10  # other pictures between the two, where the list is that long
    min_dwell_ms: int = 4_000  # a rating of a picture that was on screen for less is left out
    max_gold_failures: float = 0.25  # a rater who fails a larger share of gold answers is left out
    origin_pictures: int = 24  # of which each rater is asked last who made them
    size_px: int = 768  # both sides of each picture
    draws: int = 4_000  # of the bootstrap
    confidence: float = 0.95

    def __post_init__(self) -> None:
        bounds = {
            "raters_per_picture": (1, 1_000), "repeat_share": (0.05, 0.10), "repeat_gap": (1, 10_000),
            "min_dwell_ms": (0, 600_000), "max_gold_failures": (0, 1), "origin_pictures": (0, 10_000),
            "size_px": (64, 4_096), "draws": (100, 1_000_000), "confidence": (0.5, 0.999),
        }  # fmt: skip
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise MeasurementError(f"{name.replace('_', ' ')} must be from {least} to {most}, got {value}")

    def to_json(self) -> dict[str, Any]:
        """With the questions, as design.json has it."""
        return asdict(self) | {
            "scale": list(SCALE),
            "aspects": [asdict(aspect) for aspect in ASPECTS],
            "overall": OVERALL,
            "origin": {"question": ORIGIN_QUESTION, "answers": list(ORIGIN_ANSWERS)},
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Protocol":
        """The numbers of a design.json.

        Raises:
            MeasurementError: its aspects or its scale are not ours.
        """
        names = tuple(aspect["name"] for aspect in found["aspects"])
        if names != NAMES or tuple(found["scale"]) != SCALE:
            raise MeasurementError(f"the design asks for {', '.join(names)}; this program analyses {', '.join(NAMES)}")
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})
