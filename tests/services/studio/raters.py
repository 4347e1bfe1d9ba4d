"""A small study, and a rater before the studio's page."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from services.studio.studies import key_of, read_design
from tests.services.studio.selling import HOME, OWN, Street, hidden

PNG = b"\x89PNG\r\n\x1a\n"
ASPECTS = ("material_quality", "color_coordination")
GOOD = {f"aspect-{name}": "2" for name in ASPECTS}
SECOND_US = 1_000_000
ANNA, BO = "link-of-anna-0123456789", "link-of-bo-0123456789"
MIN_DWELL_MS = 4_000


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def passes(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND_US)


def design(ratings: int = 7, origins: int = 2) -> dict[str, Any]:
    """Two raters, who see the same pictures; each one's last picture to rate is their first again."""
    names = [f"{number:016x}" for number in range(1, ratings)]
    shown = [*names, names[0]]

    def rater(rater_id: str) -> dict[str, Any]:
        tasks = [("rate", name) for name in shown] + [("origin", name) for name in names[:origins]]
        planned = [
            {"task_id": f"{rater_id}{n:02}", "kind": kind, "picture": name} for n, (kind, name) in enumerate(tasks, 1)
        ]
        return {"rater_id": rater_id, "order_seed": 1, "tasks": planned}

    aspects = [
        {"name": ASPECTS[0], "question": "A question of <this> study?", "anchors": ["poor: {so}", "so-so", "fine"]},
        {"name": ASPECTS[1], "question": "Do the colours go together?", "anchors": ["poor: none", "x", "y"]},
    ]
    protocol = {
        "scale": [0, 1, 2],
        "aspects": aspects,
        "overall": "the mean",
        "origin": {"question": "Who made it?", "answers": ["ai", "human", "unsure"]},
        "min_dwell_ms": MIN_DWELL_MS,
        "raters_per_picture": 2,
        "repeat_share": 0.08,
        "repeat_gap": 10,
        "max_gold_failures": 0.25,
        "origin_pictures": origins,
        "size_px": 64,
        "draws": 100,
        "confidence": 0.95,
    }
    return {
        "format": "perfusion-rating-design/1",
        "design_id": "0123456789abcdef",
        "created": "2026-11-27T09:00:00+00:00",
        "protocol": protocol,
        "pictures": {
            name: {"file": f"pictures/{name}.png", "sha256": hashlib.sha256(png(name)).hexdigest()} for name in names
        },
        "raters": [rater("anna"), rater("bo")],
        "balance": {"sets_a_rater_least": 3},
    }


def png(name: str) -> bytes:
    return PNG + name.encode()


def write(folder: Path, content: Mapping[str, Any]) -> Path:
    """A design's folder."""
    (folder / "pictures").mkdir(parents=True)
    for name in content["pictures"]:
        (folder / "pictures" / f"{name}.png").write_bytes(png(name))
    (folder / "design.json").write_text(json.dumps(content))
    return folder


async def load(street: Street, folder: Path, tokens: Mapping[str, str] | None = None) -> None:
    """As the command does, with links that are known beforehand."""
    given = tokens or {"anna": ANNA, "bo": BO}
    await street.studio.studies.load(
        read_design(folder), {rater_id: key_of(token) for rater_id, token in given.items()}
    )


class RaterAt:
    """A rater at a browser without JavaScript."""

    def __init__(self, street: Street, clock: Time, token: str = ANNA) -> None:
        transport = httpx.ASGITransport(street.app)  # type: ignore[arg-type]
        self.client = httpx.AsyncClient(transport=transport, base_url=HOME, headers={"accept": "text/html"})
        self.clock = clock
        self.home = f"/rate/{token}"

    async def get(self, path: str = "") -> httpx.Response:
        return await self.client.get(self.home + path, follow_redirects=True)

    async def begins(self) -> httpx.Response:
        page = await self.get()
        return await self.sends("/begin", hidden(page.text))

    async def sends(self, path: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        return await self.client.post(self.home + path, data=dict(form), headers=OWN | headers)

    async def looks(self, path: str = "", seconds: float = 5.0) -> dict[str, str]:
        """Opens a task's page and looks at its picture for so long; returns the form's hidden fields."""
        page = await self.get(path)
        assert page.status_code == 200, page.text
        form = hidden(page.text)
        at = page.url.path
        assert (await self.client.get(f"{at}/{form['view_id']}.png")).status_code == 200
        self.clock.passes(seconds)
        return form

    async def answers(self, number: int, answers: Mapping[str, str] = GOOD, **more: str) -> httpx.Response:
        """Looks long enough, and sends what a form needs."""
        form = await self.looks(f"/{number}")
        return await self.sends(f"/{number}", form | dict(answers) | more)
