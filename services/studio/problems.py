"""What is wrong with the fields of a form, in the reader's language.

The services say it in English, in sentences of known forms; a sentence of another form stays English. Knows sentences
and fields, not who sent what.
"""

import re
from collections.abc import Callable
from functools import cache

from services.runtime.errors import InvalidArgument
from services.studio.languages import Language, noted

FORMS = (
    noted("must have {least} to {most} characters"),
    noted("must not contain NUL"),
    noted("must have at least one phrase"),
    noted("must be a UUID such as {example}"),
    noted("must not be negative"),
    noted("must be text in UTF-8"),
    noted("must be a whole number"),
    noted("must be a number from {low} to {high}"),
    noted("must be a finite number"),
    noted("must be a number"),
    noted("must be from {low} to {high}, not {value}"),
    noted("must be min_units to {high}"),
    noted("must be a time between {first} and {last}"),
    noted("must be a time such as {example}"),
    noted("must be an amount such as {example}"),
    noted("must be above 0 and at most 1"),
    noted("must be at most {most}"),
    noted("must be 1 to {most} pictures"),
    noted("must be 1 to 40 of a-z, 0-9, - and _"),
    noted("must be three capital letters"),
    noted("must be an e-mail address of at most {most} characters"),
    noted("must be a list of strings"),
    noted("must be one string"),
    noted("must be one of the enum's values"),
    noted("must be a state of a presale"),
    noted("must be PRODUCE or REFUND"),
    noted("must be IMPRESSION or CLICK"),
    noted("must be set"),
    noted("must be 0"),
    noted("must be {low} to {high}"),
    noted("must not be set without a reference_image"),
    noted("must not give a value twice"),
    noted("must have at most {most} values"),
    noted("must have {least} to {most} bytes"),
    noted("unknown value {value}; known are {known}"),
    noted("is out of range"),
    noted("is selected twice"),
    noted("is empty"),
    noted("has {count} bytes; at most {most}"),
    noted("is not a readable PNG or JPEG: it ends too early"),
    noted("is not a readable PNG or JPEG"),
    noted("has more than {most} parts"),
    noted("has {count} scans; at most {most}"),
    noted("has {size} pixels; at most {most} in all"),
    noted("has more pixels than Pillow decodes"),
)
FIELDS = {
    "prompt": noted("What do you design?"),
    "negative_prompt": noted("What they should not show"),
    "num_candidates": noted("Pictures"),
    "num_steps": noted("Steps"),
    "variety": noted("Variety"),
    "seed": noted("Seed"),
    "reference_image": noted("A picture to start from"),
    "strength": noted("How far it may be left"),
}
_VALUE = re.compile(r"\\\{(\w+)\\\}")  # as re.escape leaves it


def said(language: Language, problem: str) -> str:
    """A service's sentence in a language."""
    for form, pattern in _patterns():
        if found := pattern.fullmatch(problem):
            return language.say(form, **found.groupdict())
    return problem


def field(language: Language, name: str) -> str:
    """What the page calls a field of a round."""
    known = FIELDS.get(name.partition("[")[0])
    return name if known is None else language.say(known)


def by_field(
    error: InvalidArgument | None, language: Language, name_of: Callable[[str], str] = str
) -> dict[str, list[str]]:
    """Each field's problems, in a language; none without an error.

    Args:
        name_of: from a field's path in the request to the form's name of it.
    """
    problems: dict[str, list[str]] = {}
    for path, problem in error.violations if error else ():
        problems.setdefault(name_of(path), []).append(said(language, problem))
    return problems


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((form, re.compile(_VALUE.sub(r"(?P<\1>.+)", re.escape(form)), re.DOTALL)) for form in FORMS)
