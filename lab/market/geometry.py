"""The figure and the cut of a garment as polygons, in pixels of a 64×64 picture.

Computes outlines from attributes and a pose; lab.market.drawing has colours, textures and rasters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
Polygon = list[Point]

SHOULDER_Y, WAIST_Y, HIP_Y, CROTCH_Y, ANKLE_Y = 17.0, 29.0, 35.0, 38.0, 58.0
_HALF_SHOULDER = {"slim": 7.0, "regular": 8.5, "oversized": 10.5}
_HALF_WAIST = {"slim": 4.5, "regular": 7.0, "oversized": 10.5}
_HALF_HEM = {"slim": 6.0, "regular": 10.5, "oversized": 16.0}  # of a skirt
_HALF_LEG = {"slim": 2.6, "regular": 4.0, "oversized": 6.0}
_HALF_SLEEVE = {"slim": 2.2, "regular": 2.8, "oversized": 3.2}
_HEM_Y = {"mini": 41.0, "midi": 49.0, "maxi": 58.0}


@dataclass(frozen=True)
class Pose:
    """What varies between two pictures of one garment. Angles in radians from straight down."""

    centre_x: float
    left_arm: float
    right_arm: float
    stance: float  # half the distance between the feet, pixels

    @staticmethod
    def draw(rng: np.random.Generator) -> "Pose":
        """A natural standing pose."""
        return Pose(
            centre_x=32.0 + rng.uniform(-2.0, 2.0),
            left_arm=rng.uniform(0.35, 0.75),
            right_arm=rng.uniform(0.35, 0.75),
            stance=rng.uniform(4.0, 5.5),
        )


@dataclass(frozen=True)
class Cut:
    """The outlines of one garment: what its fabric covers, and the bare limbs beneath."""

    fabric: list[Polygon]
    sleeves: list[Polygon]
    arms: list[Polygon]
    legs: list[Polygon]
    waist_half: float
    top_y: float
    hem_y: float


def cut(garment: Mapping[str, str], pose: Pose) -> Cut:
    """The outlines of this garment on a model in this pose."""
    body, hem_y = _body(garment, pose)
    has_top = garment["category"] not in ("skirt", "trousers", "shorts")
    top_y = SHOULDER_Y - 1.5 if has_top else WAIST_Y - 1
    if garment.get("neckline") == "off-shoulder":
        top_y = SHOULDER_Y + 3.0
    return Cut(
        fabric=body,
        sleeves=[s for side in (-1, 1) for s in _sleeve(garment, pose, side)],
        arms=[_limb(_shoulder(garment, pose, side), *_arm_end(pose, side), 1.7, 1.4) for side in (-1, 1)],
        legs=[
            _limb((pose.centre_x + side * 2.6, HIP_Y), pose.centre_x + side * pose.stance, ANKLE_Y, 2.6, 1.7)
            for side in (-1, 1)
        ],
        waist_half=_HALF_WAIST[garment["fit"]],
        top_y=top_y,
        hem_y=hem_y,
    )


def _body(garment: Mapping[str, str], pose: Pose) -> tuple[list[Polygon], float]:
    category, fit, x = garment["category"], garment["fit"], pose.centre_x
    waist, shoulder, hem = _HALF_WAIST[fit], _HALF_SHOULDER[fit], _HALF_HEM[fit]
    hem_y = _HEM_Y.get(garment.get("length", ""), HIP_Y + 3.0)
    bodice = _bodice(garment, x, shoulder, waist)
    if category == "dress":
        return [bodice, _skirt(x, waist, hem, hem_y)], hem_y
    if category == "coat":
        return [bodice, _skirt(x, waist, waist + 2.0, hem_y)], hem_y
    if category == "skirt":
        return [_skirt(x, waist, hem, hem_y)], hem_y
    if category == "trousers":
        return _trousers(pose, fit, ANKLE_Y), ANKLE_Y
    if category == "shorts":
        return _trousers(pose, fit, CROTCH_Y + 6.0), CROTCH_Y + 6.0
    if category == "jumpsuit":
        return [bodice, *_trousers(pose, fit, ANKLE_Y)], ANKLE_Y
    hem_y = HIP_Y + 2.0
    return [bodice, _skirt(x, waist, waist + 0.8, hem_y)], hem_y


def _bodice(garment: Mapping[str, str], x: float, shoulder: float, waist: float) -> Polygon:
    if garment.get("neckline") == "off-shoulder":
        top = SHOULDER_Y + 3.0
        return [(x - shoulder, top), (x + shoulder, top), (x + waist, WAIST_Y + 1), (x - waist, WAIST_Y + 1)]
    return [
        (x - 2.2, 14.5),
        (x + 2.2, 14.5),
        (x + shoulder, SHOULDER_Y - 1),
        (x + shoulder, SHOULDER_Y + 5),
        (x + waist, WAIST_Y + 1),
        (x - waist, WAIST_Y + 1),
        (x - shoulder, SHOULDER_Y + 5),
        (x - shoulder, SHOULDER_Y - 1),
    ]


def _skirt(x: float, waist: float, hem: float, hem_y: float) -> Polygon:
    return [(x - waist, WAIST_Y), (x + waist, WAIST_Y), (x + hem, hem_y), (x - hem, hem_y)]


def _trousers(pose: Pose, fit: str, end_y: float) -> list[Polygon]:
    x, waist, half = pose.centre_x, min(_HALF_WAIST[fit], 8.0), _HALF_LEG[fit]
    spread = max(pose.stance, half - 0.5)
    share = (end_y - HIP_Y) / (ANKLE_Y - HIP_Y)
    hips: Polygon = [(x - waist, WAIST_Y), (x + waist, WAIST_Y), (x + half + 3.5, CROTCH_Y), (x - half - 3.5, CROTCH_Y)]
    legs: list[Polygon] = []
    for side in (-1, 1):
        end_x = x + side * (3.2 + (spread - 3.2) * share + 0.6)
        legs.append(
            [
                (x - side * 0.3, HIP_Y),
                (x + side * (half + 3.5), HIP_Y),
                (end_x + side * half, end_y),
                (end_x - side * (half - 0.6), end_y),
            ]
        )
    return [hips, *legs]


def _shoulder(garment: Mapping[str, str], pose: Pose, side: int) -> Point:
    half = _HALF_SHOULDER[garment["fit"]] if "neckline" in garment else _HALF_SHOULDER["slim"]
    drop = 5.0 if garment.get("neckline") == "off-shoulder" else 1.0
    return pose.centre_x + side * (half - 1.2), SHOULDER_Y + drop


def _arm_end(pose: Pose, side: int) -> Point:
    angle = pose.left_arm if side < 0 else pose.right_arm
    return pose.centre_x + side * (7.5 + 19.0 * np.sin(angle)), SHOULDER_Y + 19.0 * np.cos(angle)


def _sleeve(garment: Mapping[str, str], pose: Pose, side: int) -> list[Polygon]:
    if garment.get("sleeve", "none") == "none":
        return []
    start, end = _shoulder(garment, pose, side), _arm_end(pose, side)
    share = 0.42 if garment["sleeve"] == "short" else 0.95
    half, style = _HALF_SLEEVE[garment["fit"]], garment["sleeve_style"]
    tip = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
    if style == "bell":
        knee = (start[0] + (tip[0] - start[0]) * 0.5, start[1] + (tip[1] - start[1]) * 0.5)
        return [_limb(start, *knee, half, half), _limb(knee, *tip, half * 0.9, 7.0)]
    sleeve = _limb(start, *tip, half, half * (0.85 if style == "puff" else 1.0))
    if style == "puff":
        ball = (start[0] + side * 2.0, start[1] + 1.5)
        return [sleeve, _circle(ball, 5.2)]
    return [sleeve]


def _limb(start: Point, end_x: float, end_y: float, half: float, end_half: float) -> Polygon:
    length = max(float(np.hypot(end_x - start[0], end_y - start[1])), 1e-6)
    nx, ny = (end_y - start[1]) / length, -(end_x - start[0]) / length
    return [
        (start[0] + nx * half, start[1] + ny * half),
        (end_x + nx * end_half, end_y + ny * end_half),
        (end_x - nx * end_half, end_y - ny * end_half),
        (start[0] - nx * half, start[1] - ny * half),
    ]


def _circle(centre: Point, radius: float, points: int = 14) -> Polygon:
    angles = np.linspace(0.0, 2 * np.pi, points, endpoint=False)
    return [(centre[0] + radius * float(np.cos(a)), centre[1] + radius * float(np.sin(a))) for a in angles]
