"""The page on which an expert rates pictures: nobody logs in, a personal link says who it is.

A picture's address has the task and the view, so that nothing on the page, in an address or in a header says which
picture is shown again, nor anything else of the study's key.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from services.runtime.errors import NotFound
from services.studio import asking
from services.studio.ports import Studies, Taking
from services.studio.studies import CORRECTABLE, ORIGIN, Rater, Task, current, is_turning, key_of, may_answer
from services.studio.visits import Anybody, Sent, Visit, form_of, to

router = APIRouter()
HIDDEN = ("form_token", "view_id", "dwell_ms")
MOST_DWELL_DIGITS = 12
Link = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{16,64}$")]
Number = Annotated[int, Path(ge=1, le=10_000)]


@dataclass(frozen=True)
class Sitting:
    """A request of a rater."""

    visit: Visit
    rater: Rater
    token: str

    @property
    def studies(self) -> Studies:
        return self.visit.studio.studies

    @property
    def home(self) -> str:
        return f"/rate/{self.token}"

    @property
    def form_token(self) -> str:
        return hmac.digest(self.token.encode(), b"form", "sha256").hex()

    def show(self, template: str, status: int = 200, **content: Any) -> Response:
        """A page of the study, which knows nothing of a merchant who may have logged in here, too."""
        shown = {"session": None, "home": self.home, "form_token": self.form_token, "rater": self.rater}
        return self.visit.show(template, status, **shown, **content)

    def closed(self) -> Response:
        return self.show("rated.html", HTTPStatus.GONE, how="closed", back=0)

    async def task(self, number: int) -> tuple[Task, list[Task]]:
        """A task of this rater's, and all of theirs; NotFound for none."""
        tasks = list(await self.studies.tasks(self.rater))
        if number > len(tasks):
            raise NotFound("there is no such task")
        return tasks[number - 1], tasks


@dataclass(frozen=True)
class RatersForm:
    """A form that a page of the study sent."""

    sitting: Sitting
    sent: Sent


async def sitting(token: Link, visit: Anybody) -> Sitting:
    """Whose link it is; NotFound for nobody's."""
    rater = await visit.studio.studies.rater(key_of(token))
    if rater is None:
        raise NotFound("this link opens no study: ask who sent it to you")
    return Sitting(visit, rater, token)


async def raters_form(sitting: Annotated[Sitting, Depends(sitting)], request: Request) -> RatersForm:
    """A form; raises as `form_of`."""
    return RatersForm(sitting, await form_of(sitting.visit, request, sitting.form_token))


Rating = Annotated[Sitting, Depends(sitting)]
RatingForm = Annotated[RatersForm, Depends(raters_form)]


@router.get("/rate/{token}")
async def come(sitting: Rating) -> Response:
    """Wherever the rater is in the study."""
    if sitting.rater.is_closed:
        return sitting.closed()
    tasks = await sitting.studies.tasks(sitting.rater)
    if not sitting.rater.has_begun:
        count = sum(task.kind != ORIGIN for task in tasks)
        return sitting.show("protocol.html", count=count, asks_more=count < len(tasks), correctable=CORRECTABLE)
    now = current(tasks)
    if now is None:
        return sitting.show("rated.html", how="done", back=_before(tasks, len(tasks) + 1))
    if is_turning(tasks):
        return sitting.show("rated.html", how="turn", back=_before(tasks, now.number), number=now.number)
    return to(f"{sitting.home}/{now.number}")


@router.post("/rate/{token}/begin")
async def begin(form: RatingForm) -> Response:
    """The protocol is read."""
    await form.sitting.studies.begin(form.sitting.rater)
    return to(form.sitting.home)


@router.get("/rate/{token}/{number}")
async def show(number: Number, sitting: Rating) -> Response:
    """A task, if it is its turn or may still be changed."""
    task, tasks = await sitting.task(number)
    if sitting.rater.is_closed:
        return sitting.closed()
    if not sitting.rater.has_begun or not may_answer(tasks, number):
        return to(sitting.home)
    return await _task(sitting, task, tasks, asking.given(sitting.rater.protocol, task))


@router.get("/rate/{token}/{number}/{view_id}.png")
async def picture(number: Number, view_id: UUID, sitting: Rating) -> Response:
    """The picture of a view; its time on the screen begins."""
    png = await sitting.studies.picture(sitting.rater, number, str(view_id))
    if png is None:
        raise NotFound("there is no such picture")
    return Response(png, media_type="image/png")


@router.post("/rate/{token}/{number}/seen")
async def seen(number: Number, form: RatingForm) -> Response:
    """A browser says how long the picture was on the screen, when it is not any more."""
    dwell_ms = _whole(form.sent.text("dwell_ms"))
    if dwell_ms is not None:
        await form.sitting.studies.seen(form.sitting.rater, number, form.sent.text("view_id"), dwell_ms)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/rate/{token}/{number}")
async def answer(number: Number, form: RatingForm) -> Response:
    """An answer; the same form sent twice is one."""
    sitting, sent = form.sitting, form.sent
    say = sitting.visit.language.say
    task, _ = await sitting.task(number)
    if sitting.rater.is_closed:
        return sitting.closed()
    if not sitting.rater.has_begun:
        return to(sitting.home)
    texts = sent.texts()
    answers, problems = asking.read_form(sitting.rater.protocol, task, texts, HIDDEN, sitting.visit.language)
    dwell_ms, view_id = _whole(sent.text("dwell_ms")), sent.text("view_id")
    if sent.text("dwell_ms") and dwell_ms is None:
        problems["dwell_ms"] = [say("must be a whole number of milliseconds")]
    if problems:
        if dwell_ms is not None:
            await sitting.studies.seen(sitting.rater, number, view_id, dwell_ms)
        return await _again(sitting, number, sent, problems, HTTPStatus.BAD_REQUEST)
    match await sitting.studies.answer(sitting.rater, number, view_id, answers, dwell_ms):
        case Taking.CLOSED:
            return sitting.closed()
        case Taking.UNSEEN:
            problem = say("The picture was not shown. Look at it, and answer again.")
            return await _again(sitting, number, sent, {"view_id": [problem]}, HTTPStatus.BAD_REQUEST)
        case Taking.TOO_SOON:
            problem = say("Look at the picture a little longer, and answer again.")
            return await _again(sitting, number, sent, {"dwell_ms": [problem]}, HTTPStatus.BAD_REQUEST)
        case _:  # taken; or not its turn any more, as the next page shows
            return to(sitting.home)


async def _again(
    sitting: Sitting, number: int, sent: Sent, problems: dict[str, list[str]], status: HTTPStatus
) -> Response:
    """A task's page with what was chosen and what is wrong with it."""
    task, tasks = await sitting.task(number)
    if not may_answer(tasks, number):
        return to(sitting.home)
    chosen = {field: sent.text(field) for field in asking.choices(sitting.rater.protocol, task)}
    return await _task(sitting, task, tasks, chosen, problems, status)


async def _task(
    sitting: Sitting,
    task: Task,
    tasks: list[Task],
    chosen: dict[str, str],
    problems: dict[str, list[str]] | None = None,
    status: int = 200,
) -> Response:
    view_id = await sitting.studies.view(sitting.rater, task.number)
    if view_id is None:  # meanwhile it was closed, or answered on another page
        return to(sitting.home)
    same = [each for each in tasks if each.kind == task.kind]
    protocol = sitting.rater.protocol
    return sitting.show(
        "rate.html",
        status,
        task=task,
        view_id=view_id,
        place=same.index(task) + 1,
        count=len(same),
        least_ms=max(0, protocol.min_dwell_ms - task.dwell_ms) if task.kind != ORIGIN else 0,
        back=_before(tasks, task.number),
        chosen=chosen,
        problems=problems or {},
        ask=asking,
    )


def _before(tasks: Sequence[Task], number: int) -> int:
    """The task before, if it may be changed; otherwise 0."""
    return number - 1 if number > 1 and may_answer(tasks, number - 1) else 0


def _whole(text: str) -> int | None:
    """A whole number of milliseconds; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DWELL_DIGITS else None
