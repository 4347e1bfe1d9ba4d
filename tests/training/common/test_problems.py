"""Findings: every problem is counted, and as many as fit are shown with place and remedy."""

from training.common.problems import Findings, Problem


def test_kinds_are_counted_and_a_few_examples_shown() -> None:
    findings = Findings(examples=2)
    findings.add(Problem("left out", "a picture is broken", f"row {n}", "send it again", "cut") for n in range(5))
    findings.add([Problem("error", "no column 'prompt'", "file", "add it")])
    assert findings.lines() == [
        "to be mended: no training starts",
        "  no column 'prompt', 1 time",
        "    remedy: add it",
        "    file",
        "left out: a training goes on without these groups",
        "  a picture is broken, 5 times",
        "    remedy: send it again",
        "    row 0: cut",
        "    row 1: cut",
        "    … and 3 more",
    ]
    assert findings.summary() == "1 to be mended, 5 left out, 0 to know"
    assert findings.total("error") == 1 and findings.total("error", "left out") == 6


def test_problems_of_one_kind_may_have_remedies_of_their_own() -> None:
    findings = Findings()
    findings.add(Problem("error", "a part is missing", part, f"copy {part}") for part in ("unet", "vae"))
    assert findings.lines()[2:] == ["    remedy: copy unet", "    unet", "    remedy: copy vae", "    vae"]
