"""docs/clients.md keeps what it promises: its first program runs, and its tables are whole."""

import re
from pathlib import Path

import grpc
import pytest
from perfusion import client as perfusion_client
from perfusion.client import CallerError, PerFusion, PerFusionError, RetryableError
from perfusion.client._deadlines import LONGER_S, READING_S
from perfusion.v1 import (
    feedback_service_pb2,
    generation_service_pb2,
    ranking_service_pb2,
    user_embedding_service_pb2,
)
from perfusion.v1.error_reason_pb2 import ErrorReason
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackResponse
from perfusion.v1.generation_service_pb2 import GenerateResponse
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileResponse

from deploy.local.authority import Authority
from tests.protos.running import certified, serving

PAGE = (Path(__file__).resolve().parents[2] / "docs/clients.md").read_text()


def test_the_first_program_gives_a_group_and_takes_a_pick(tmp_path, monkeypatch):
    group = {"group_id": "g", "user_id": "store-1", "candidates": [{"image_id": "i", "png": b"picture"}]}
    picks = []

    def submit(request, context):
        picks.extend(request.selected_image_ids)
        return SubmitFeedbackResponse()

    handlers = {
        "PutUserProfile": lambda request, context: PutUserProfileResponse(),
        "Generate": lambda request, context: iter([GenerateResponse(group=group)]),
        "SubmitFeedback": submit,
    }
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path / "build" / "local")  # as `make up` leaves it
    authority.prepare(["generation"])
    with serving(certified(authority.folder("generation"), authority.clients), **handlers) as address:
        exec(re.sub(r"localhost:\d+", address, program), {})
    assert picks == ["i"]
    assert (tmp_path / "best.png").read_bytes() == b"picture"


def test_the_errors_table_has_every_reason_with_its_class():
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| [A-Z_]+ \| `(\w+)` \|", PAGE, re.MULTILINE))
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name}
    assert rows.keys() == reasons - {"UNSPECIFIED"}
    assert all(getattr(perfusion_client, name).for_reason == reason for reason, name in rows.items())


def test_every_class_that_a_call_raises_is_in_the_table():
    abstract = {PerFusionError, CallerError, RetryableError}
    public = [getattr(perfusion_client, name) for name in perfusion_client.__all__]
    raised = [each for each in public if isinstance(each, type) and issubclass(each, PerFusionError)]
    missing = [each.__name__ for each in raised if each not in abstract and f"| `{each.__name__}` |" not in PAGE]
    assert missing == []


@pytest.mark.parametrize(
    "module", [feedback_service_pb2, generation_service_pb2, ranking_service_pb2, user_embedding_service_pb2]
)
def test_every_method_of_the_api_is_on_the_page(module):
    methods = [m.name for service in module.DESCRIPTOR.services_by_name.values() for m in service.methods]
    assert [name for name in methods if f"`{name}`" not in PAGE] == []


def test_every_method_of_the_client_is_on_the_page():
    methods = [name for name in vars(PerFusion) if not name.startswith("_") and name != "close"]
    assert [name for name in methods if f"`{name}`" not in PAGE] == []


def service_config() -> str:
    return re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_deadlines_on_the_page_are_the_clients():
    [sentence] = re.findall(r"it is 120 s for.*?for the others", PAGE, re.DOTALL)
    for seconds, methods in re.findall(r"(\d+) s for ([^0-9]*)", sentence):
        for method in re.findall(r"`(\w+)`", methods):
            assert LONGER_S[method] == float(seconds)
    assert set(re.findall(r"`(\w+)`", sentence)) == LONGER_S.keys()
    assert f"{READING_S:g} s for the others" in sentence


def test_grpc_takes_the_service_config_and_tries_again():
    calls = []

    def get(request, context):
        calls.append(request)
        if len(calls) < 3:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "10"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        return generation_service_pb2.GetReleaseInfoResponse()

    options = [("grpc.service_config", service_config())]
    with serving(GetReleaseInfo=get) as address, grpc.insecure_channel(address, options=options) as channel:
        GenerationServiceStub(channel).GetReleaseInfo(generation_service_pb2.GetReleaseInfoRequest())
    assert len(calls) == 3
