"""What a rater is asked, and what their form answers.

A study asks in the language of its design. The six usual aspects are known here, so that they have translations; the
page says any other as the design has it. It knows a protocol and a form's fields; no page and no database.
"""

from collections.abc import Mapping, Sequence

from services.studio.languages import Language, noted
from services.studio.studies import RATE, Protocol, Task

ORIGIN_FIELD = "origin"
NOT_JUDGED = "none"  # an aspect that the rater says cannot be judged
ORIGIN_ANSWERS = {
    "ai": noted("An AI made it"),
    "human": noted("People designed and photographed it"),
    "unsure": noted("I cannot tell"),
}
USUAL = (  # as training/measurement/rating/protocol.py asks
    noted("Does the fabric look like a real material of good quality?"),
    noted("poor: no fabric that exists, or smeared and plastic"),
    noted("average: a plausible fabric without depth"),
    noted("good: weave, drape and light as of a real, good fabric"),
    noted("Does the person who wears it look real?"),
    noted("poor: face, hands or body are malformed"),
    noted("average: right at a glance, odd on a closer look"),
    noted("good: as photographed; where nobody wears it, the form that carries it"),
    noted("Could this be sewn, and is it well made?"),
    noted("poor: seams, closures or hems that cannot be made"),
    noted("average: can be made, with details that do not fit together"),
    noted("good: construction is clear, sound and finished"),
    noted("Does the pattern suit the garment?"),
    noted("poor: broken, stretched or out of place"),
    noted("average: acceptable, not matched at seams or in scale"),
    noted("good: scale, placement and repeat suit the garment; plain fabric is rated as a pattern"),
    noted("Is the design as a whole attractive?"),
    noted("poor: would not be shown"),
    noted("average: would be shown, does not stand out"),
    noted("good: would be chosen for the front page"),
    noted("Do the colours go together?"),
    noted("poor: they clash, or bleed into each other"),
    noted("average: acceptable"),
    noted("good: they support the design"),
    noted("Was this picture made by an AI, or designed and photographed by people?"),
)


def field_of(aspect: str) -> str:
    """The form's field of an aspect."""
    return f"aspect-{aspect}"


def choices(protocol: Protocol, task: Task) -> dict[str, dict[str, int | str | None]]:
    """By field, the answer that each value stands for."""
    if task.kind == RATE:
        scores: dict[str, int | str | None] = {str(score): score for score in protocol.scale} | {NOT_JUDGED: None}
        return {field_of(aspect.name): scores for aspect in protocol.aspects}
    return {ORIGIN_FIELD: {answer: answer for answer in protocol.origin.answers}}


def names(protocol: Protocol, task: Task) -> dict[str, str]:
    """By field, what ratings.jsonl calls it."""
    if task.kind == RATE:
        return {field_of(aspect.name): aspect.name for aspect in protocol.aspects}
    return {ORIGIN_FIELD: ORIGIN_FIELD}


def given(protocol: Protocol, task: Task) -> dict[str, str]:
    """By field, the value that stands for the answer that was given last; empty without one."""
    if task.answers is None:
        return {}
    called = names(protocol, task)
    return {
        field: value
        for field, values in choices(protocol, task).items()
        for value, answer in values.items()
        if called[field] in task.answers and task.answers[called[field]] == answer
    }


def read_form(
    protocol: Protocol, task: Task, form: Mapping[str, Sequence[str]], others: Sequence[str], language: Language
) -> tuple[dict[str, int | str | None], dict[str, list[str]]]:
    """What a form answers, and what is wrong with it, by field.

    Args:
        others: fields that a form has beyond the questions'.
    """
    answers: dict[str, int | str | None] = {}
    problems: dict[str, list[str]] = {}
    called = names(protocol, task)
    for field, values in choices(protocol, task).items():
        typed = form.get(field, ())
        if len(typed) == 1 and typed[0] in values:
            answers[called[field]] = values[typed[0]]
        else:
            problems[field] = [language.say("Choose one answer here.")]
    if odd := sorted(form.keys() - problems.keys() - choices(protocol, task).keys() - set(others)):
        problems[odd[0]] = [language.say("This was not asked.")]
    return answers, problems
