"""A round while it runs: its page, what it has come to as a stream of events, its previews, its end."""

import time
from collections.abc import AsyncIterable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.runtime.errors import NotFound, ResourceExhausted
from services.studio import following, problems
from services.studio.following import DONE, State
from services.studio.languages import Language
from services.studio.visits import Acting, Form, Visit, anybody, to

router = APIRouter()
LOOK_S = 15.0  # between two looks whether who reads a stream is still logged in
AGAIN_MS = 1000  # until a browser whose stream was cut asks again


async def reading(request_id: UUID, visit: Acting) -> Visit:
    """Somebody who may follow the round, and for whom there is room; refused before the stream begins."""
    await visit.studio.following.state(visit.user_id, str(request_id))
    if visit.studio.following.readers >= visit.studio.max_readers:
        raise ResourceExhausted("too many pages follow rounds")
    return visit


Reading = Annotated[Visit, Depends(reading)]


@router.get("/rounds/{request_id}")
async def look(request_id: UUID, visit: Acting) -> Response:
    found = await visit.studio.following.look(visit.user_id, str(request_id))
    asked, state = found.asked, found.state
    if state.stage == DONE:
        return to(f"/groups/{state.group_id}")
    wrong = [(problems.field(visit.language, name), problems.said(visit.language, why)) for name, why in state.problems]
    return visit.show(
        "round.html",
        asked=asked,
        state=state,
        wrong=wrong,
        shown=told(asked.request_id, state, visit.language),
        words=await visit.words(),
        request_id=asked.request_id,
    )


@router.get("/rounds/{request_id}/events", response_class=EventSourceResponse)
async def follow(request_id: UUID, visit: Reading, request: Request) -> AsyncIterable[ServerSentEvent]:
    """Every state after the one that the browser has seen (Last-Event-ID); the last one ends the stream."""
    studio, seen, looked = visit.studio, request.headers.get("last-event-id", ""), time.monotonic()
    number = int(seen) if seen.isdecimal() and len(seen) < 16 else -1
    async for state in studio.following.watch(visit.user_id, str(request_id), number):
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            now = await anybody(request)
            if now.session is None or now.session.user_id != visit.user_id:
                return  # logged out, or another merchant's by now
        yield ServerSentEvent(
            data=told(str(request_id), state, visit.language), id=str(state.number), event="state", retry=AGAIN_MS
        )


@router.get("/rounds/{request_id}/previews/{number}/{place}.png")
async def preview(request_id: UUID, number: int, place: int, visit: Acting) -> Response:
    """A preview of the round; of an older state, the newest there is."""
    pictures = (await visit.studio.following.look(visit.user_id, str(request_id))).state.previews
    if not 0 <= place < len(pictures):
        raise NotFound("there is no such preview", field="place")
    return Response(pictures[place], media_type="image/png")


@router.post("/rounds/{request_id}/end")
async def end(request_id: UUID, sent: Form) -> Response:
    visit = sent.visit
    await visit.studio.following.end(visit.user_id, str(request_id))
    return to(f"/rounds/{request_id}")


def told(request_id: str, state: State, language: Language) -> dict[str, Any]:
    """A state as the page shows it."""
    previews = range(state.num_previews)
    return {
        "stage": state.stage,
        "text": _text(state, language),
        "step": state.step,
        "num_steps": state.num_steps,
        "previews": [f"/rounds/{request_id}/previews/{state.previews_number}/{place}.png" for place in previews],
        "goes_to": f"/groups/{state.group_id}" if state.stage == DONE else "",
        "is_over": state.is_over,
    }


def _text(state: State, language: Language) -> str:
    match state.stage:
        case following.QUEUED:
            return language.say(
                "In the queue: place {position}, about {seconds} s",
                position=state.position,
                seconds=round(state.wait_s),
            )
        case following.DRAWING:
            return language.say("Drawing: step {step} of {steps}", step=state.step, steps=state.num_steps)
        case following.RANKING:
            return language.say("Ranking the pictures for you")
        case following.WAITING:
            if state.reason == "TOO_MANY_CALLS":
                return language.say(
                    "The platform is full: trying again in {seconds} s", seconds=max(1, round(state.wait_s))
                )
            return language.say("A part of the platform does not answer: trying again")
        case following.DONE:
            return language.say("Done")
        case following.FAILED:
            return _failure(state.reason, language)
        case following.CANCELLED:
            return language.say("Ended")
    return language.say("Sent")


def _failure(reason: str, language: Language) -> str:
    match reason:
        case "INVALID_ARGUMENT":
            return language.say("The platform did not take this form")
        case "NOT_FOUND":
            return language.say("The merchant has no profile yet")
        case "DEADLINE_EXCEEDED":
            return language.say("The round took too long")
        case "TOO_MANY_CALLS":
            return language.say("The platform is full: try again later")
        case "DEPENDENCY_UNAVAILABLE":
            return language.say("A part of the platform does not answer: try again later")
    return language.say("The round failed")
