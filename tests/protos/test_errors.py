"""The typed errors of a call: which class, and what it carries, over a real connection."""

import subprocess
import sys

import grpc
import pytest
from perfusion import client as perfusion_client
from perfusion.client import (
    CallerError,
    DeadlineExceeded,
    InvalidArgument,
    MessageTooLarge,
    NotFound,
    PerFusion,
    PerFusionError,
    RequestIdReused,
    RetryableError,
    ServiceFault,
    TooManyCalls,
    Unavailable,
)
from perfusion.client._errors import BY_REASON
from perfusion.v1.error_reason_pb2 import ErrorReason

from tests.protos.running import bad_request, info, refuse, retry_info, serving


def error_when_refused(code, *details, **more) -> PerFusionError:
    """What a client gets when the service ends its call so."""
    with (
        serving(GetGroup=lambda request, context: refuse(context, code, *details, **more)) as address,
        PerFusion(address, timeout_s=0.5) as client,
        pytest.raises(PerFusionError) as caught,
    ):
        client.get_group("g")
    return caught.value


def test_every_reason_of_the_api_has_a_class_that_is_public():
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name} - {"UNSPECIFIED"}
    assert BY_REASON.keys() == reasons
    assert all(getattr(perfusion_client, kind.__name__) is kind for kind in BY_REASON.values())


def test_a_wrong_field_is_named_with_its_problem_and_the_trace():
    error = error_when_refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        info("INVALID_ARGUMENT"),
        bad_request(("prompt", "must not be empty"), ("seed", "must be 0 or more")),
        message="prompt: must not be empty",
        trace_id="ab" * 16,
    )
    assert type(error) is InvalidArgument
    assert error.fields == [("prompt", "must not be empty"), ("seed", "must be 0 or more")]
    assert (error.reason, error.code) == ("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT)
    assert error.message == "prompt: must not be empty"
    assert error.trace_id == "ab" * 16
    assert str(error) == f"prompt: must not be empty (trace id {error.trace_id})"
    assert error.retry_after_s is None


def test_metadata_says_what_was_not_found():
    error = error_when_refused(grpc.StatusCode.NOT_FOUND, info("NOT_FOUND", field="group_id"))
    assert type(error) is NotFound
    assert error.metadata == {"field": "group_id"}


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.ALREADY_EXISTS, [info("REQUEST_ID_REUSED")], RequestIdReused),
        (grpc.StatusCode.ALREADY_EXISTS, [info("A_REASON_OF_A_LATER_API")], RequestIdReused),
        (grpc.StatusCode.NOT_FOUND, [info("PERMISSION_DENIED", domain="elsewhere.example")], NotFound),
        (grpc.StatusCode.DEADLINE_EXCEEDED, [info("DEADLINE_EXCEEDED")], DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, [info("TOO_MANY_CALLS"), retry_info(9)], TooManyCalls),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, [retry_info(9)], TooManyCalls),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, [], MessageTooLarge),
        (grpc.StatusCode.UNAVAILABLE, [info("DEPENDENCY_UNAVAILABLE"), retry_info(9)], Unavailable),
        (grpc.StatusCode.INTERNAL, [], ServiceFault),
        (grpc.StatusCode.UNIMPLEMENTED, [], ServiceFault),
    ],
)
def test_the_reason_decides_and_the_code_where_none_is_known(code, details, kind):
    error = error_when_refused(code, *details)
    assert type(error) is kind
    assert error.code is code


def test_details_that_cannot_be_read_leave_the_error_as_its_code_says():
    def garbage(request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    with serving(GetGroup=garbage) as address, PerFusion(address) as client, pytest.raises(NotFound, match="gone"):
        client.get_group("g")


def test_a_request_above_grpcs_limit_is_the_callers_and_is_not_tried_again():
    images = [bytes(17 * 2**20)] * 2
    calls = []
    with (
        serving(Rank=lambda request, context: calls.append(request)) as address,
        PerFusion(address) as client,
        pytest.raises(MessageTooLarge),
    ):
        client.rank("store-1", "dress", images)
    assert calls == []


def test_the_tree_tells_whose_turn_it_is():
    callers = {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "REQUEST_ID_REUSED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
        "MESSAGE_TOO_LARGE",
    }
    assert {reason for reason, kind in BY_REASON.items() if issubclass(kind, CallerError)} == callers
    retried = {"DEPENDENCY_UNAVAILABLE", "TOO_MANY_CALLS"}
    assert {reason for reason, kind in BY_REASON.items() if issubclass(kind, RetryableError)} == retried


ONLY_GRPC_AND_PROTOBUF = """
import sys

class Absent:
    "Everything but the standard library, protobuf, grpcio and grpcio's own typing_extensions is not there."
    def find_spec(self, name, path=None, target=None):
        there = ("google.protobuf", "google._upb", "grpc.", "perfusion.")
        tops = {"google", "grpc", "perfusion", "typing_extensions"} | sys.stdlib_module_names
        if name not in tops and name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith(there):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import perfusion.client
from perfusion.client._details import _classes
_classes()
try:
    import google.rpc
except ModuleNotFoundError:
    print("clean")
"""

COLLIDES_WITH_NOTHING = """
from perfusion.client import _details
_details._classes()
from google.rpc import error_details_pb2, status_pb2, code_pb2
from google.protobuf import descriptor_pool
pool = descriptor_pool.Default()
assert pool.FindMessageTypeByName("google.rpc.Status") is status_pb2.Status.DESCRIPTOR
try:
    pool.FindMessageTypeByName("perfusion.client.details.Status")
except KeyError:
    print("clean")
"""


@pytest.mark.parametrize("script", [ONLY_GRPC_AND_PROTOBUF, COLLIDES_WITH_NOTHING], ids=["imports", "pool"])
def test_the_client_needs_grpc_and_protobuf_alone_and_keeps_its_messages_to_itself(script):
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": path}, check=False
    )
    assert (done.stdout, done.returncode) == ("clean\n", 0), done.stderr
