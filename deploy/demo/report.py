"""The demonstration's output: pictures, contact sheet, summary.json, details.json, and a printed table.

Knows the files of the output folder and their form; measures nothing itself.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.demo.case_study import PROMPT, StorePlayed
from deploy.demo.judge import Judge
from deploy.demo.playing import GROUP_SIZE, Pictures, Played
from deploy.demo.sheet import Row, draw
from deploy.local.layout import ROOT

TIMINGS = ROOT / "build" / "timings"  # seconds per step of this run of make, one file each
SHEET_GROUPS = 2
SHOWN_KINDS = ("sleeve_style", "trim")  # the kinds on which the two stores' tastes differ


def save_pictures(output: Path, store: StorePlayed) -> list[str]:
    """The first group's pictures in seed order, as `scores` are; paths from the repository's root."""
    folder = output / store.merchant.user_id
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, pixels in enumerate(store.personal[0].pictures, start=1):
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        paths.append(os.path.relpath(path, ROOT))
    return paths


def save_sheet(output: Path, judge: Judge, stores: list[StorePlayed]) -> Path:
    path = output / "contact_sheet.png"
    rows = [_row(judge, "Population average", "without personalisation", stores[0].plain, [])]
    for store in stores:
        title = store.merchant.user_id.replace("-", " ").capitalize()
        rows.append(_row(judge, title, "personalised,\nsame seeds in each column", store.personal, store.picked))
    draw(f"“{PROMPT}”", rows, path)
    return path


def save_json(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def details(judge: Judge, stores: list[StorePlayed]) -> dict[str, Any]:
    """Every group on its own, for readers who want more than the means; its pictures in seed order."""
    return {
        store.merchant.user_id: [
            {
                "group_id": played.group.group_id,
                "personalised": played in store.personal,
                "prompt_accuracy": judge.prompt_accuracy(played.pictures),
                "true_utility": judge.utility(store.merchant, played.pictures),
                "latency_s": round(played.latency_s, 3),
                "wishes": played.wishes,
                "read": judge.read(played.pictures),
            }
            for played in (*store.personal, *store.plain)
        ]
        for store in stores
    }


def step_timings() -> dict[str, float]:
    """Seconds of setup, export and start in this run of make; 0 for a step that was not run."""
    names = ("setup", "export", "start")
    return {n: float((TIMINGS / n).read_text()) if (TIMINGS / n).exists() else 0.0 for n in names}


def table(summary: dict[str, Any], lowest_accuracy: float) -> str:
    """The summary for a reader."""
    lines = [f"{'store':<18} {'prompt':>7} {'utility':>8} {'as other':>9} {'without':>8} {'latency':>8}"]
    lines += [
        f"{store['user_id']:<18} {store['prompt_accuracy']:>7.2f} {store['true_utility']:>8.2f} "
        f"{store['true_utility_as_other_store']:>9.2f} {store['true_utility_without_personalisation']:>8.2f} "
        f"{store['latency_s']:>6.2f} s"
        for store in summary["stores"]
    ]
    timings = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary["timings_s"].items())
    return "\n".join(
        [
            *lines,
            f"prompt accuracy of the worst group: {lowest_accuracy:.2f}",
            f"picks read back from Kafka: {summary['feedback_events_read_back']}",
            f"denoising loop against bare ONNX Runtime calls: {summary['denoise_vs_bare_onnx']:.2f} times",
            f"timings: {timings}",
        ]
    )


def _row(judge: Judge, title: str, subtitle: str, played: list[Played], picked: list[int]) -> Row:
    shown = played[:SHEET_GROUPS]
    pictures: Pictures = np.concatenate([p.pictures for p in shown])
    captions = ["\n".join(g.get(kind, "-") for kind in SHOWN_KINDS) for g in judge.read(pictures)]
    frames = frozenset(GROUP_SIZE * number + place for number, place in enumerate(picked[:SHEET_GROUPS]))
    return Row(title, subtitle, pictures, captions, frames)
