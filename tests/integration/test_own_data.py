"""The whole path of another company on a fresh clone, by the commands that docs/training.md names: a table with dirt in
it and a family of other sizes become a release that serves, then a second one with one profile feature more beside it.

    PYTHONPATH=.:protos/gen:protos/client .venv/bin/python -m tests.integration.test_own_data    by itself, aloud

Everything lies in folders whose names have a space. Minutes: nine trainings and exports in processes of their own.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from perfusion.v1.generation_service_pb2 import GetReleaseInfoRequest
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileRequest
from perfusion.v1.user_pb2 import FeatureValue, StringList
from PIL import Image

from contract.repository import Repository
from deploy.local.authority import Authority
from deploy.local.clients import Clients, connect
from deploy.local.layout import ROOT, Layout, venv
from deploy.local.triton_server import CONTROLLER
from tests.integration import own_data
from tests.integration.client import CALL_TIMEOUT_S, Round, fields_blamed, generate, new_id, request, wait_until
from tests.ports import free_offset

pytestmark = pytest.mark.slow  # trains two families' parts, and exports twice

NAME = "own-data"
LIMIT_S = 600.0  # of one command, on a busy machine
TRAINING = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["", "protos/gen", "protos/client"])}
BOLD = {
    "style": FeatureValue(string_value="bold"),
    "audience": FeatureValue(string_list_value=StringList(values=["office"])),
    "years_open": FeatureValue(number_value=4),
}
QUIET = BOLD | {"style": FeatureValue(string_value="quiet")}
ON_THE_WEB = BOLD | {"channel": FeatureValue(string_value="web")}


def say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def run(*command: str | Path, status: int = 0) -> str:
    """What a command says, on both streams; fails the test where it ends otherwise, or by a traceback."""
    words = [str(word) for word in command]
    say("$ " + subprocess.list2cmdline(["python" if word == sys.executable else word for word in words]))
    environment = os.environ | TRAINING
    done = subprocess.run(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    lines = [line.rsplit("\r", 1)[-1] for line in done.stdout.splitlines()]  # progress bars: their last state
    print("\n".join(f"    {line}" for line in lines), flush=True)
    assert done.returncode == status, f"{words}: status {done.returncode}, not {status}:\n{done.stdout}"
    assert "Traceback" not in done.stdout
    return "\n".join(lines)


def python(module: str, *options: str | Path, status: int = 0) -> str:
    return run(sys.executable, "-m", module, *options, status=status)


@dataclass
class Company:
    """A team's own folders, and what is done in them."""

    root: Path
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.family, self.repository = self.root / "my family", self.root / "my repository"
        self.layout = Layout(NAME, free_offset(), self.repository)

    def train(self, table: Path, runs: Path, *, generator: bool) -> None:
        """Every part from this table, copied into the family as the documentation says."""
        to = ("--weights", self.family, "--data", table)
        if generator:
            quick = ("--recipe", "tiny", "--steps", "1", "--groups-per-batch", "4", "--sheet-every", "0")
            python("training.generator.train", *to, "--out", runs / "generator", "--stages", "dpo", *quick)
            run("cp", "-rT", runs / "generator/dpo/unet", self.family / "backbone")
        python("training.wishes.train", *to, "--out", runs / "wishes")
        quick = ("--recipe", "tiny", "--steps", "60", "--groups-per-batch", "32", "--held-out", "30")
        told = python("training.reward.train", *to, "--out", runs / "reward", *quick)
        assert f"{own_data.ROWS - own_data.LEFT_OUT} groups of " in told
        assert "left out: 1 groups, a picture that cannot be decoded" in told
        run("cp", "-rT", runs / "wishes/preferences", self.family / "preferences")
        run("cp", "-rT", runs / "reward/perfusion_rm", self.family / "perfusion_rm")

    def export(self) -> str:
        return python("training.exporting.export", "--weights", self.family, "--repository", self.repository)

    def cluster(self, command: str) -> None:
        """`make up REPOSITORY=…` and `make down` call these."""
        where = ("--name", NAME, "--port-offset", str(self.layout.port_offset))
        which = ("--model-repository", self.repository) if command == "up" else ()
        run(venv("services") / "bin/python", "-m", "deploy.local", *where, *which, command)

    def releases(self, *command: str, status: int = 0) -> str:
        """`make release-load` and its neighbours call these."""
        where = ("--repository", self.repository, "--triton", self.layout.address("triton_grpc"))
        where += ("--certificates", str(Authority(self.layout.home).folder(CONTROLLER)))
        return run(venv("services") / "bin/python", "-m", "deploy.releases", *command, *where, status=status)


@contextmanager
def served(company: Company) -> Iterator[Clients]:
    """A cluster on the company's repository."""
    shutil.rmtree(company.layout.home, ignore_errors=True)
    try:
        company.cluster("up")
        with connect(company.layout) as clients:
            yield clients
    finally:
        company.cluster("down")


def put(clients: Clients, features: dict[str, FeatureValue]) -> str:
    """A new merchant of this profile."""
    user_id = f"merchant-{new_id()}"
    asked = PutUserProfileRequest(user_id=user_id, features=features)
    clients.users.PutUserProfile(asked, timeout=CALL_TIMEOUT_S)
    return user_id


def shown(clients: Clients, user_id: str, release: int) -> Round:
    """A group for "dress", whole: of this release, ranked, pictures of the family's size."""
    done = generate(clients, request(user_id, prompt="dress", num_candidates=3))
    assert done.group.release == done.release == release
    assert [candidate.rank for candidate in done.group.candidates] == [1, 2, 3]
    sizes = {Image.open(io.BytesIO(candidate.png)).size for candidate in done.group.candidates}
    assert sizes == {(own_data.SIZE_PX, own_data.SIZE_PX)}
    say(f"a group of release {release}, wishes {[list(candidate.wishes) for candidate in done.group.candidates]}")
    return done


def wished(done: Round) -> set[str]:
    return {phrase for candidate in done.group.candidates for phrase in candidate.wishes}


class Asking(threading.Thread):
    """A merchant who asks for groups all the time, and must hear from no release that comes or goes."""

    def __init__(self, clients: Clients, user_id: str) -> None:
        super().__init__()
        self._clients, self._user_id, self._stopped = clients, user_id, threading.Event()
        self.releases, self.failures = list[int](), list[str]()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                done = generate(self._clients, request(self._user_id, prompt="dress", num_candidates=1))
                self.releases.append(done.group.release)
            except (grpc.RpcError, AssertionError) as error:
                self.failures.append(str(error))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def test_a_table_and_a_family_of_another_company_are_trained_exported_served_and_replaced(tmp_path: Path) -> None:
    company = Company(tmp_path / "another company")
    table, unusable, dirty = (company.root / name for name in ("my table", "my first try", "my table"))
    say("a table with dirt, and a family of 128 pixels")
    own_data.write_unusable_table(unusable)
    own_data.write_table(dirty, own_data.SCHEMA)
    own_data.write_family(company.family)

    # What is wrong is listed before any work, and refused in one line where it is not mended.
    told = python("training.data.check_table", unusable, "--weights", company.family, status=1)
    for found in ("features: is not JSON", "user_id: is null", "no column 'prompt'", "rename it to 'prompt'"):
        assert found in told
    refused = python("training.reward.train", "--data", unusable, "--out", company.root / "no", status=1)
    assert "no column 'prompt'" in refused and not (company.root / "no").exists()
    told = python("training.data.check_table", table, "--weights", company.family, status=1)
    for kind in own_data.DIRT:
        assert f"  {kind}, " in told
    assert told.splitlines()[-1].endswith(f"0 to be mended, {own_data.LEFT_OUT} left out, 10 to know")
    told = python("training.models.check_family", company.family)
    assert "a part is missing that an export needs" in told

    # The first release.
    company.train(table, company.root / "first run", generator=True)
    python("training.models.check_family", company.family)
    python("training.exporting.write_contracts", "--weights", company.family, "--out", company.repository)
    assert "release 1 staged" in company.export()

    # One profile feature more: the table no longer fits the family until both say the same.
    own_data.write_table(company.root / "my newer table", own_data.WITH_CHANNEL)
    shutil.copy(company.root / "my newer table/feature_schema.json", company.family)
    told = python("training.data.check_table", table, "--weights", company.family, "--no-pictures", status=1)
    assert "the table has another feature schema than the family" in told and "'channel' is missing" in told
    told = python("training.models.check_family", company.family, status=1)
    assert "a part was trained with another feature schema, 2 times" in told
    company.train(company.root / "my newer table", company.root / "second run", generator=False)

    with served(company) as clients:
        bold, quiet = put(clients, BOLD), put(clients, QUIET)
        assert "red" in wished(shown(clients, bold, 1)), "what bold merchants picked in the table"
        assert "black" in wished(shown(clients, quiet, 1))

        asking = Asking(clients, bold)
        asking.start()
        try:
            assert "release 2 staged" in company.export()
            assert "release 1 serves on" in company.export(), "the same again writes nothing"
            company.releases("load", "2")
            company.releases("promote", "2")
            wait_until(lambda: 2 in asking.releases[-1:], LIMIT_S)
            shown(clients, put(clients, ON_THE_WEB), 2)
            info = clients.generation.GetReleaseInfo(GetReleaseInfoRequest(), timeout=CALL_TIMEOUT_S).info
            assert [feature.name for feature in info.features][-1] == "channel"
            company.releases("rollback")
            wait_until(lambda: 1 in asking.releases[-1:], LIMIT_S)
        finally:
            asking.stop()
        assert asking.failures == [] and {1, 2} == set(asking.releases)
        assert "red" in wished(shown(clients, bold, 1))
        with pytest.raises(grpc.RpcError) as rejected:
            put(clients, ON_THE_WEB)
        assert fields_blamed(rejected.value) == {"features[channel]"}
        told = company.releases("status")
        assert "live" in told and "fallback" in told
    assert Repository(company.repository).numbers() == [1, 2]
    say("done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        test_a_table_and_a_family_of_another_company_are_trained_exported_served_and_replaced(Path(folder))
