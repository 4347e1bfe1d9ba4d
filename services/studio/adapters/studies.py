"""Studies in SQL.

Whatever a rater does begins with a write of the study's row, so that closing it, and the answers of one study, come one
after the other.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.runtime.errors import AlreadyExists, NotFound
from services.studio.adapters.tables import (
    studies,
    study_answers,
    study_pictures,
    study_raters,
    study_tasks,
    study_views,
)
from services.studio.ports import Studies, Taking
from services.studio.studies import RATE, Loaded, Protocol, Rater, Task, may_answer

OF_A_STUDY = (study_answers, study_views, study_tasks, study_raters, study_pictures, studies)


class SqlStudies(Studies):
    """A row a study, picture, rater, task, view and answer."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self, loaded: Loaded, keys: Mapping[str, str]) -> None:
        design = loaded.design
        row = {
            "study_id": design.design_id,
            "design_sha256": loaded.sha256,
            "protocol": design.protocol.model_dump(),
            "create_time_us": self._clock(),
            "close_time_us": 0,
        }
        async with self._database.writing() as connection:
            query = insert_into(connection, studies).values(row).on_conflict_do_nothing()
            if (await connection.execute(query.returning(studies.c.study_id))).one_or_none() is None:
                raise AlreadyExists(f"the study {design.design_id} is loaded: a rater's lost link can be renewed")
            of: dict[str, Any] = {"study_id": design.design_id}
            for name, png in loaded.pictures.items():
                await connection.execute(insert(study_pictures).values(of | {"picture": name, "png": png}))
            for rater in design.raters:
                who = of | {"rater_id": rater.rater_id}
                key = {"key": keys[rater.rater_id], "begin_time_us": 0}
                await connection.execute(insert(study_raters).values(who | key))
                tasks = [
                    who | {"number": number, "task_id": task.task_id, "kind": task.kind, "picture": task.picture}
                    for number, task in enumerate(rater.tasks, 1)
                ]
                await connection.execute(insert(study_tasks), tasks)

    async def renew(self, study_id: str, rater_id: str, key: str) -> None:
        its = study_raters.c
        query = update(study_raters).where(its.study_id == study_id, its.rater_id == rater_id).values(key=key)
        async with self._database.writing() as connection:
            if not (await connection.execute(query)).rowcount:
                raise NotFound(f"the study {study_id} has no rater {rater_id!r}")

    async def close(self, study_id: str) -> None:
        async with self._database.writing() as connection:
            if not await _open(connection, study_id):
                await _known(connection, study_id)
                return
            query = update(studies).where(studies.c.study_id == study_id).values(close_time_us=self._clock())
            await connection.execute(query)

    async def delete(self, study_id: str) -> Mapping[str, int]:
        async with self._database.writing(new=False) as connection:
            if connection.dialect.name == "sqlite":  # else what is deleted stays in the file until it is written over
                await connection.exec_driver_sql("PRAGMA secure_delete=ON")
            rows = {
                table.name: (await connection.execute(delete(table).where(table.c.study_id == study_id))).rowcount
                for table in OF_A_STUDY
            }
        if not any(rows.values()):
            raise NotFound(f"there is no study {study_id}")
        async with self._database.transaction() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return rows

    async def progress(self, study_id: str) -> Mapping[str, tuple[int, int]]:
        tasks, answers = study_tasks.c, study_answers.c
        planned = select(tasks.rater_id, func.count()).where(tasks.study_id == study_id).group_by(tasks.rater_id)
        given = select(answers.rater_id, func.count()).where(answers.study_id == study_id, answers.place == 1)
        async with self._database.transaction() as connection:
            await _known(connection, study_id)
            of = {row[0]: row[1] for row in await connection.execute(planned.order_by(tasks.rater_id))}
            answered = {row[0]: row[1] for row in await connection.execute(given.group_by(answers.rater_id))}
        return {rater_id: (answered.get(rater_id, 0), count) for rater_id, count in of.items()}

    async def lines(self, study_id: str) -> Sequence[Mapping[str, Any]]:
        its, tasks = study_answers.c, study_tasks.c
        is_its = (tasks.study_id == its.study_id) & (tasks.rater_id == its.rater_id) & (tasks.number == its.number)
        query = (
            select(study_answers, tasks.task_id)
            .join(study_tasks, is_its)
            .where(its.study_id == study_id)
            .order_by(its.create_time_us, its.rater_id, its.number, its.place)
        )
        async with self._database.transaction() as connection:
            await _known(connection, study_id)
            return [
                {
                    "design_id": row.study_id,
                    "rater_id": row.rater_id,
                    "task_id": row.task_id,
                    "answers": row.answers,
                    "dwell_ms": row.dwell_ms,
                    "time": datetime.fromtimestamp(row.create_time_us / 1e6, UTC).isoformat(timespec="microseconds"),
                }
                for row in await connection.execute(query)
            ]

    async def rater(self, key: str) -> Rater | None:
        query = (
            select(study_raters, studies.c.protocol, studies.c.close_time_us)
            .join(studies, studies.c.study_id == study_raters.c.study_id)
            .where(study_raters.c.key == key)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        protocol = Protocol.model_validate(row.protocol)
        return Rater(row.study_id, row.rater_id, protocol, row.begin_time_us > 0, row.close_time_us > 0)

    async def begin(self, rater: Rater) -> None:
        its = study_raters.c
        whose = (its.study_id == rater.study_id, its.rater_id == rater.rater_id, its.begin_time_us == 0)
        async with self._database.writing() as connection:
            if await _open(connection, rater.study_id):
                await connection.execute(update(study_raters).where(*whose).values(begin_time_us=self._clock()))

    async def tasks(self, rater: Rater) -> Sequence[Task]:
        async with self._database.transaction() as connection:
            return await _tasks(connection, rater, self._clock())

    async def view(self, rater: Rater, number: int) -> str | None:
        row = {
            "view_id": str(uuid4()),
            "study_id": rater.study_id,
            "rater_id": rater.rater_id,
            "number": number,
            "show_time_us": 0,
            "dwell_ms": 0,
        }
        async with self._database.writing() as connection:
            if not await _open(connection, rater.study_id):
                return None
            if not may_answer(await _tasks(connection, rater, self._clock()), number):
                return None
            await connection.execute(insert(study_views).values(row))
        return str(row["view_id"])

    async def picture(self, rater: Rater, number: int, view_id: str) -> bytes | None:
        tasks = study_tasks.c
        named = select(tasks.picture).where(
            tasks.study_id == rater.study_id, tasks.rater_id == rater.rater_id, tasks.number == number
        )
        its = study_pictures.c
        query = select(its.png).where(its.study_id == rater.study_id, its.picture == named.scalar_subquery())
        async with self._database.writing() as connection:
            if not await _open(connection, rater.study_id):
                return None
            view = await _view(connection, rater, number, view_id)
            if view is None:
                return None
            if not view.show_time_us:
                which = study_views.c.view_id == view_id
                await connection.execute(update(study_views).where(which).values(show_time_us=self._clock()))
            png: bytes = (await connection.execute(query)).scalar_one()
        return png

    async def seen(self, rater: Rater, number: int, view_id: str, dwell_ms: int) -> None:
        async with self._database.writing() as connection:
            if await _open(connection, rater.study_id):
                view = await _view(connection, rater, number, view_id)
                if view is not None:
                    await _note(connection, view, dwell_ms, self._clock())

    async def answer(
        self, rater: Rater, number: int, view_id: str, answers: Mapping[str, int | str | None], dwell_ms: int | None
    ) -> Taking:
        now = self._clock()
        its = study_answers.c
        whose = (its.study_id == rater.study_id, its.rater_id == rater.rater_id, its.number == number)
        query = select(study_answers).where(*whose).order_by(its.place.desc()).limit(1)
        async with self._database.writing() as connection:
            if not await _open(connection, rater.study_id):
                return Taking.CLOSED
            last = (await connection.execute(query)).one_or_none()
            if last is not None and (last.view_id, last.answers) == (view_id, dict(answers)):
                return Taking.TAKEN  # the form was sent twice
            tasks = await _tasks(connection, rater, now)
            if not may_answer(tasks, number):
                return Taking.LOCKED
            view = await _view(connection, rater, number, view_id)
            if view is None or not view.show_time_us:
                return Taking.UNSEEN
            await _note(connection, view, dwell_ms, now)
            task = (await _tasks(connection, rater, now))[number - 1]
            if task.kind == RATE and task.dwell_ms < rater.protocol.min_dwell_ms:
                return Taking.TOO_SOON
            row = {
                "study_id": rater.study_id,
                "rater_id": rater.rater_id,
                "number": number,
                "place": 1 if last is None else last.place + 1,
                "view_id": view_id,
                "answers": dict(answers),
                "dwell_ms": task.dwell_ms,
                "create_time_us": now if last is None else max(now, last.create_time_us + 1),  # the latest one counts
            }
            await connection.execute(insert(study_answers).values(row))
        return Taking.TAKEN


async def _open(connection: AsyncConnection, study_id: str) -> bool:
    """Whether the study takes answers; no other transaction closes it, or answers in it, before this one ends."""
    its = studies.c
    query = update(studies).where(its.study_id == study_id, its.close_time_us == 0).values(close_time_us=0)
    return bool((await connection.execute(query)).rowcount)


async def _known(connection: AsyncConnection, study_id: str) -> None:
    query = select(studies.c.study_id).where(studies.c.study_id == study_id)
    if (await connection.execute(query)).one_or_none() is None:
        raise NotFound(f"there is no study {study_id}")


async def _tasks(connection: AsyncConnection, rater: Rater, now_us: int) -> list[Task]:
    views, answers, tasks = study_views.c, study_answers.c, study_tasks.c
    is_theirs = [(its.study_id == rater.study_id) & (its.rater_id == rater.rater_id) for its in (views, answers, tasks)]
    looked = (
        select(
            views.number,
            func.sum(views.dwell_ms).label("dwell_ms"),
            func.min(func.nullif(views.show_time_us, 0)).label("since_us"),
        )
        .where(is_theirs[0])
        .group_by(views.number)
    )
    seen = {row.number: (int(row.dwell_ms), row.since_us) for row in await connection.execute(looked)}
    given = select(answers.number, answers.answers).where(is_theirs[1]).order_by(answers.place)
    latest = {row.number: row.answers for row in await connection.execute(given)}
    found = []
    for row in await connection.execute(select(study_tasks).where(is_theirs[2]).order_by(tasks.number)):
        dwell_ms, since_us = seen.get(row.number, (0, None))
        most = 0 if since_us is None else max(0, now_us - since_us) // 1000  # two open pages do not count twice
        found.append(
            Task(
                row.number,
                row.task_id,
                row.kind,
                row.picture,
                row.number in seen,
                min(dwell_ms, most),
                latest.get(row.number),
            )
        )
    return found


async def _view(connection: AsyncConnection, rater: Rater, number: int, view_id: str) -> Any:
    """A view's row, if it is one of this task of the rater's."""
    its = study_views.c
    whose = (its.view_id == view_id, its.study_id == rater.study_id, its.rater_id == rater.rater_id)
    return (await connection.execute(select(study_views).where(*whose, its.number == number))).one_or_none()


async def _note(connection: AsyncConnection, view: Any, dwell_ms: int | None, now_us: int) -> None:
    """How long a view's picture was on the screen: at most since it was fetched, at least what is known."""
    elapsed = max(0, now_us - view.show_time_us) // 1000 if view.show_time_us else 0
    longest = max(view.dwell_ms, elapsed if dwell_ms is None else min(dwell_ms, elapsed))
    which = study_views.c.view_id == view.view_id
    await connection.execute(update(study_views).where(which).values(dwell_ms=longest))
