"""What status says of releases, of what serves beside the live one, and of gates' verdicts."""

import json
from dataclasses import replace

from contract.release import MANIFEST, current_file, read_manifest
from contract.repository import Repository
from contract.rollout import rollout_file
from deploy.releases.controller import Controller
from deploy.releases.history import History
from deploy.releases.status import look
from tests.contract.test_release import MANIFEST as SAID
from tests.deploy.releases.parts import Table, spoil


def test_status_says_how_far_each_release_has_come(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    controller.load(2)
    controller.promote(2)
    triton.held["denoiser"][3] = "READY"
    spoil(repository, 4)
    head, *rows = str(look(repository, [triton])).splitlines()
    assert head.split()[:2] == ["release", "state"]
    found = {int(row.split()[0]): row for row in rows[:4]}
    assert "fallback, warm" in found[1] and "live, warm" in found[2] and "3 of 3" in found[2]
    assert "loading" in found[3] and "1 of 3" in found[3]
    assert "staged" in found[4] and "denoiser/4/model.onnx has changed" in found[4]
    assert SAID.source_commit[:7] in found[1] and SAID.create_time[:19] in found[1]
    assert rows[4:] == [
        "changes that Kafka has not acknowledged: 1; announce",
        "release 2 is live; 4 is newer and does not serve. "
        "For it to: make release-load R=4 && make release-promote R=4",
    ]
    del triton.held["text_encoder"][2]
    assert "live, but only 2 of its 3 models are ready" in str(look(repository, [triton]))


def test_status_shows_roles_shares_verdicts_and_what_a_release_was_trained_on(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    manifest = repository.release_dir(2) / MANIFEST
    said = replace(read_manifest(manifest.parent), trained_on={"table": "s3://lake/groups", "version": "12"})
    manifest.write_text(json.dumps(said.to_json()))
    verdicts = repository.root / "releases" / "verdicts"
    verdicts.mkdir()
    for gate, verdict in (
        ("offline", {"verdict": "pass", "e_value": None, "groups": 240, "reasons": ["no figure fell"]}),
        ("traffic", {"verdict": "undecided", "e_value": 3.25, "groups": 81, "reasons": []}),
    ):
        (verdicts / f"2-{gate}.json").write_text(json.dumps({"kind": gate} | verdict))
    (verdicts / "3-offline.json").write_text("[]")
    controller.restore()
    controller.shares(exploration=0.05, holdback=0.02, base=1)
    controller.load(2)
    controller.trial(2, 0.5)
    seen = look(repository, [triton])
    text = str(seen)
    for line in (
        "live, base, warm",
        "trial, warm",
        "trained on table s3://lake/groups, version 12",
        "offline gate: pass, 240 groups: no figure fell",
        "traffic gate: undecided, e-value 3.25, 81 groups",
        "3-offline.json is no verdict",
        "release 2 on trial in 50.0% of requests; exploration 5.0%; hold-back of 2.0% of merchants on release 1",
        "changes that Kafka has not acknowledged: 2; announce",
    ):
        assert line in text
    data = json.loads(json.dumps(seen.to_json()))
    assert "salt" not in data["rollout"] and data["rollout"]["trial"] == 2
    assert (data["live"], data["owed"], [each["number"] for each in data["releases"]]) == (1, 2, [1, 2, 3, 4])
    assert [each["verdict"] for each in data["releases"][1]["verdicts"]] == ["pass", "undecided"]
    History(repository.root).mark_announced(2)
    assert "Kafka" not in str(look(repository, [triton]))
    assert "4 is newer and does not serve" in str(look(repository, [triton]))
    (verdicts / "4-offline.json").write_text(json.dumps({"verdict": "refuse", "reasons": ["the judge fell"]}))
    assert "4 is newer" not in str(look(repository, [triton]))


def test_status_says_what_is_wrong_with_what_serves(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    controller.load(2)
    controller.promote(2)
    current_file(repository.root).write_text("1\n")
    assert "the history ends with release 2: the pointer was moved by hand" in str(look(repository, [triton]))
    rollout_file(repository.root).write_text(json.dumps({"trial": 9, "mixed_share": 0.5}))
    assert "release 9 serves and is not there" in str(look(repository, [triton]))
    for damaged in (rollout_file(repository.root), current_file(repository.root)):
        damaged.write_text("?")
        assert f"warning: {damaged} cannot be read" in str(look(repository, [triton]))
