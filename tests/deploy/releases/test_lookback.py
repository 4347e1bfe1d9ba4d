"""What served when, as a person and a machine are told."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from contract.errors import InputError
from contract.repository import Repository
from deploy.releases import __main__ as command
from deploy.releases.controller import Controller
from deploy.releases.history import History
from deploy.releases.lookback import lines, served, table, told

HOUR = timedelta(hours=1)


def test_what_served_is_known_for_every_time(controller: Controller, repository: Repository) -> None:
    begin = datetime.now(UTC) - HOUR
    controller.restore()
    controller.load(2)
    controller.shares(exploration=0.05, holdback=0.02, base=1)
    controller.trial(2, 0.5)
    controller.promote(2)
    _, trial, promotion = (change.time for change in History(repository.root).changes())
    before = served(repository, begin)
    assert (before["live"], before["since"], before["exploration_share"]) == (1, None, None)
    assert told(before).endswith("release 1 was live, from before the history begins")
    during = served(repository, trial)
    assert (during["live"], during["trial"], during["mixed_share"], during["base"]) == (1, 2, 0.5, 1)
    assert "release 1 was live, the fallback none; release 2 on trial in 50.0% of requests" in told(during)
    after = served(repository, datetime.now(UTC))
    assert (after["live"], after["trial"], after["fallback"], after["holdback_share"]) == (2, None, 1, 0.02)
    assert after["since"] == promotion.isoformat(timespec="milliseconds")
    with pytest.raises(InputError, match="has not come yet"):
        served(repository, datetime.now(UTC) + HOUR)


def test_a_repository_without_history_says_what_it_knows(repository: Repository, tmp_path) -> None:
    assert told(served(repository, datetime.now(UTC))).endswith("release 1 was live, from before the history begins")
    assert told(served(Repository(tmp_path / "empty"), datetime.now(UTC))).endswith("no release was live")
    assert table(lines(repository)).splitlines()[1:] == ["nothing has changed yet"]


def test_the_commands_answer_without_a_triton(
    controller: Controller,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    controller.restore()
    controller.load(2)
    controller.promote(2, "the gate passed it")
    History(repository.root).mark_announced(1)
    controller.rollback("it was no good")

    def said(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["releases", *arguments, "--repository", str(repository.root)])
        assert command.main() == 0
        return capsys.readouterr().out

    head, first, second = said("history").splitlines()
    assert head.split()[:3] == ["number", "time", "what"]
    assert re.search(r"promoted +2 +1 +1 .* yes .*@.*the gate passed it$", first)
    assert re.search(r"rolled back +1 +2 +2 .* no .*it was no good$", second)
    assert [json.loads(line)["announced"] for line in said("history", "--json").splitlines()] == [True, False]
    at = History(repository.root).changes()[0].time.isoformat()
    assert json.loads(said("served", "--json", "--at", at))["live"] == 2
    assert "release 1 was live, the fallback 2" in said("served")
    monkeypatch.setattr("sys.argv", ["releases", "served", "--at", "yesterday"])
    with pytest.raises(SystemExit):
        command.main()
    assert "'yesterday' is no time such as" in capsys.readouterr().err
