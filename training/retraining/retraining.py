"""A retraining: from the base family and all collected groups to a new family, part by part, resumed where it stopped.

    RUN/retraining.json   what goes in, how far it is, what it measured; written for failures, too
    RUN/trained_on.json   the groups that train, by id
    RUN/wishes/, reward/, adapter/, student/   one folder a part, as its own training writes it
    RUN/family/           the whole family, once every part is trained

Training always starts from the base family: an error of one retraining is not the start of the next. The same inputs
give the same family, byte by byte, but for the times in its record.
`python -m training.retraining.retrain` is the command.
"""

import hashlib
import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry.trace import SpanKind

from contract import tracing
from training.common.errors import ModelError, reading
from training.common.places import CACHE
from training.common.reports import as_json, write_report
from training.common.runs import held
from training.data.delta import DeltaName, delta_name, open_delta
from training.data.table import check_data, check_schema, hash_table, name_of, read_table
from training.exporting.release import fingerprint
from training.models.family import FamilyPaths
from training.retraining.family import assemble
from training.retraining.material import Table, gather
from training.retraining.mixture import Chosen, arms_of, choose, flood_text
from training.retraining.orders import read_orders
from training.retraining.parts import TRAIN
from training.retraining.plan import PARTS, Plan
from training.retraining.traffic_gate import hashed
from training.retraining.trained_on import RECORD, TrainedOn

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


class RetrainingError(ModelError):
    """A retraining cannot be done as it is asked for."""


@dataclass
class Record:
    """What retraining.json says; `data` is what goes in and what came out."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, out: Path) -> "Record":
        """The record of this folder, empty if there is none."""
        path = out / RECORD
        if not path.is_file():
            return cls(path)
        with reading(path, RetrainingError):
            return cls(path, json.loads(path.read_text(encoding="utf-8")))

    def update(self, **values: Any) -> None:
        """Writes these values."""
        self.data |= values
        write_report(self.path, self.data)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Says what is being done, and how long it took."""
        began = time.monotonic()
        self.update(part=name)
        with tracing.span(name):
            yield
        seconds = self.data.get("seconds", {})
        self.update(seconds=seconds | {name: round(seconds.get(name, 0) + time.monotonic() - began, 1)}, part=None)


def retrain(plan: Plan) -> FamilyPaths:
    """Trains (or resumes); returns the new family.

    Raises:
        BusyError: another retraining of this table, or in this folder, is under way.
        InputError: tables and family do not fit together, or there is too little to learn from.
        Diverged: a training went wrong.
    """
    cache = _cache("collected", plan.groups)
    with held(plan.out), held(cache):
        record = Record.of(plan.out)
        try:
            with _stopped_by_signals(), tracing.entry("retrain", kind=SpanKind.INTERNAL) as span:
                made = _retrain(plan, record, cache)
                span.set_attributes({"perfusion.table_version": record.data.get("table_version") or 0})
                return made
        except BaseException as error:
            failed = isinstance(error, Exception)  # else a signal
            if record.data.get("state") != FINISHED and not isinstance(error, AnotherRun):
                reason = str(error) or type(error).__name__
                record.update(state=FAILED if failed else INTERRUPTED, reason=reason, ended=_now())
            raise


class AnotherRun(RetrainingError):
    """The folder holds a retraining of something else, which stays as it is."""


def _retrain(plan: Plan, record: Record, cache: Path) -> FamilyPaths:
    family = FamilyPaths.under(plan.weights)
    table = _pinned(plan.groups, record)
    original = check_data(plan.original)
    for data in (table, original):
        check_schema(data, family.schema(), str(family.feature_schema))
    shop = _pinned_shop(plan, record)
    inputs = _inputs(plan, family, table, original, shop)
    if record.data.get("inputs", inputs) != inputs and any((plan.out / part).exists() for part in PARTS):
        raise AnotherRun(
            f"{plan.out} holds another retraining ({_difference(record.data['inputs'], inputs)}): choose another folder"
        )
    if record.data.get("state") == FINISHED and record.data["inputs"] == inputs:
        print(f"{plan.out} is finished: {plan.out / 'family'}")
        return FamilyPaths.under(plan.out / "family")
    if record.data.get("inputs") != inputs:
        shutil.rmtree(plan.out / "work", ignore_errors=True)  # of what failed before any part was trained
    collected = list(read_table(table, images=False))
    record.update(**_asked(plan, table, original, inputs), rows=len(collected), state=RUNNING, reason=None)
    chosen = choose(collected, plan.rules)
    record.update(**_of_chosen(chosen, table))
    if chosen.surplus:
        print(f"left out: {flood_text(chosen.surplus)}")
    orders = read_orders(shop, plan.order_weight, {group.group_id for group in chosen.training}) if shop else None
    if orders:
        record.update(orders=orders.to_json(chosen.training))
    with record.part("reading"):
        collected_ids = {group.group_id for group in collected}
        others = [group for group in read_table(original, images=False) if group.group_id not in collected_ids]
        material = gather(
            Table(original, {group.group_id for group in others}, _cache("original", original)),
            Table(table, {group.group_id for group in chosen.training}, cache),
            family,
            plan.rules.original_share,
            plan.out / "work" / "pixels.npy" if plan.reads_pixels else None,
            orders,
        )
    trains = [group for group in chosen.training if group.group_id in material.trained]
    learnt = TrainedOn.of(trains, others, salt=hashlib.sha256(as_json(inputs).encode()).hexdigest()[:32])
    learnt.write(plan.out)
    record.update(mixture=material.mixture.to_json(), left_out=dict(material.left_out))
    print(material.text())
    trained = dict[str, Path]()
    for number, part in enumerate(plan.parts, 1):
        print(f"part {number} of {len(plan.parts)}: {part}")
        with record.part(part):
            made, figures = TRAIN[part](plan, replace(family, **trained), table, material)
        trained |= made
        record.update(figures=record.data.get("figures", {}) | {part: figures})
    finished = {"state": FINISHED, "ended": _now()}
    whole = assemble(family, trained, record.data | finished, learnt, plan.out / "family")
    record.update(**finished)
    shutil.rmtree(plan.out / "work", ignore_errors=True)
    return whole


# ---- what goes in ----------------------------------------------------------------------------


def _pinned(groups: Path, record: Record) -> Path:
    """The table at its version: the one that the run began with, if none is asked for."""
    name, begun = delta_name(groups), record.data.get("table_version")
    if name and name.version is None and record.data.get("table") == _place(groups) and begun is not None:
        groups = Path(str(DeltaName(name.location, begun)))
    return check_data(groups)


def _pinned_shop(plan: Plan, record: Record) -> Path | None:
    """The table of orders at its version: the one that the run began with, if none is asked for. None: they count
    nothing."""
    if not plan.order_weight or plan.shop is None:
        return None
    begun = record.data.get("inputs", {}).get("orders", {}).get("table", "").rpartition("@")
    name = delta_name(plan.shop)
    if name and name.version is None and begun[0] == _place(plan.shop):
        return Path(str(DeltaName(name.location, int(begun[2]))))
    if name and name.version is None:
        return Path(str(DeltaName(name.location, open_delta(name).version())))
    return plan.shop


def _inputs(plan: Plan, family: FamilyPaths, table: Path, original: Path, shop: Path | None) -> dict[str, Any]:
    """Everything that decides what comes out."""
    orders = {"orders": {"table": _version_of(shop), "weight": plan.order_weight}} if shop else {}
    return {
        "table": _version_of(table), "original": _version_of(original),
        "family": fingerprint([path for path in vars(family).values() if path.exists()])[:16],
        "parts": list(plan.parts), "rules": asdict(plan.rules),
        "recipes": plan.recipes(), **orders,
    }  # fmt: skip


def _difference(was: Any, now: Any) -> str:
    return ", ".join(f"its {name} is not this one" for name in was | now if was.get(name) != now.get(name))


def _version_of(table: Path) -> str:
    """A Delta table's place and version; a Parquet table's place and content."""
    if name := delta_name(table):
        return f"{_place(table)}@{name.version}"
    digest = hashlib.sha256()
    hash_table(table, digest.update)
    return f"{_place(table)}@{digest.hexdigest()[:16]}"


def _asked(plan: Plan, table: Path, original: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    place, _, version = inputs["table"].rpartition("@")
    return {
        "table": place, "table_version": int(version) if delta_name(table) else None, "table_digest": version,
        "original": inputs["original"], "weights": str(plan.weights), "parts": list(plan.parts),
        "recipe": inputs["recipes"], "inputs": inputs, "began": _now(),
    }  # fmt: skip


def _of_chosen(chosen: Chosen, table: Path) -> dict[str, Any]:
    """What the record says of the collected groups."""
    training = chosen.training
    return {
        "held_out": len(chosen.held_out),
        "hold_out": {
            "groups": [group.group_id for group in chosen.held_out],
            "from": chosen.since.isoformat() if chosen.since else None,
        },
        "surplus": {hashed(user_id): count for user_id, count in chosen.surplus.items()},
        "arms": dict(arms_of(table, {group.group_id for group in training})),
        "merchants": len({group.user_id for group in training}),
        "picks_of_nothing": sum(not any(c.selected for c in group.candidates) for group in training),
    }


# ---- what all of it needs ----------------------------------------------------------------------


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that the record says that the run was interrupted."""

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cache(kind: str, table: Path) -> Path:
    """Where the pictures of a table are kept, the same for all of its versions."""
    return CACHE / f"{kind}-{name_of(table)}-{hashlib.sha256(_place(table).encode()).hexdigest()[:8]}"


def _place(table: Path) -> str:
    """Where a table is, without its version: an absolute path, or s3://…"""
    name = delta_name(table)
    location = name.location if name else str(table)
    return location if "://" in location else str(Path(location).resolve())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
