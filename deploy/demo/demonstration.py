"""The demonstration from its first profile to its report: the case study played, compared, read back and drawn.

`python -m deploy.demo` is the command. Wiring only.
"""

import statistics
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deploy.demo import case_study, report
from deploy.demo.case_study import GROUPS, PROMPT, StorePlayed
from deploy.demo.judge import Judge
from deploy.demo.playing import Played, play
from deploy.demo.speed import denoise_vs_bare_onnx
from deploy.local.clients import Clients, connect
from deploy.local.layout import ROOT, Layout
from lab.market.merchants import case_study as case_study_merchants

RECOGNISER = ROOT / "lab" / "recogniser" / "weights"


def show(layout: Layout, output: Path) -> None:
    """Plays the case study against this cluster and writes into this folder."""
    output.mkdir(parents=True, exist_ok=True)
    judge = Judge.load(RECOGNISER, PROMPT)
    with connect(layout) as clients:
        stores = _play(clients, judge)
        ratio, warm = _compare_speed(clients, layout, stores)
    print("reading the picks back from Kafka", flush=True)
    images = [report.save_pictures(output, store) for store in stores]
    summary = _summary(judge, layout, stores, images, ratio, warm)
    _write(output, judge, stores, summary)


def _play(clients: Clients, judge: Judge) -> list[StorePlayed]:
    merchants = case_study_merchants()
    with tqdm(total=2 * GROUPS * len(merchants), desc="groups of five", unit="group") as bar:
        return case_study.play_case_study(clients, judge, merchants, tick=lambda: bar.update() and None)


def _compare_speed(clients: Clients, layout: Layout, stores: list[StorePlayed]) -> tuple[float, list[Played]]:
    print("comparing the denoising loop with bare ONNX Runtime calls", flush=True)
    model = layout.model_repository / "denoiser" / str(layout.release()) / "model.onnx"
    merchant = stores[0].merchant
    return denoise_vs_bare_onnx(model, lambda: play(clients, merchant, PROMPT, seed=0))


def _summary(
    judge: Judge,
    layout: Layout,
    stores: list[StorePlayed],
    images: list[list[str]],
    ratio: float,
    warm: list[Played],
) -> dict[str, Any]:
    others = [store.merchant for store in reversed(stores)]
    warm_s = statistics.median(played.latency_s for played in warm)
    first_s = stores[0].personal[0].latency_s
    return {
        "release": layout.release(),
        "prompt": PROMPT,
        "stores": [
            case_study.measure(judge, store, other, paths)
            for store, other, paths in zip(stores, others, images, strict=True)
        ],
        "feedback_events_read_back": case_study.read_back(layout, stores),
        "timings_s": report.step_timings() | {"first_group": round(first_s, 3), "warm_group": round(warm_s, 3)},
        "denoise_vs_bare_onnx": round(ratio, 3),
    }


def _write(output: Path, judge: Judge, stores: list[StorePlayed], summary: dict[str, Any]) -> None:
    lowest = min(judge.prompt_accuracy(p.pictures) for store in stores for p in (*store.personal, *store.plain))
    report.save_json(output / "details.json", report.details(judge, stores))
    sheet = report.save_sheet(output, judge, stores)
    path = report.save_json(output / "summary.json", summary)
    print(report.table(summary, lowest))
    print(f"written: {sheet}, {path}")
