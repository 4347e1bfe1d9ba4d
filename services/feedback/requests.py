"""From a request to the service's own terms, or to InvalidArgument naming every wrong field.

It knows the proto's limits and the form of ids. picks.py checks the pick against its group.
"""

from collections.abc import Sequence

from perfusion.v1 import feedback_service_pb2 as pb

from contract.limits import MAX_SELECTED_IMAGES
from services.feedback.messages import scope_of
from services.feedback.picks import Pick, duplicates
from services.feedback.ports import Picks
from services.runtime.callers import require
from services.runtime.errors import PermanentError
from services.runtime.fields import Fields
from services.runtime.pages import Page, page_of


def pick_of(request: pb.SubmitFeedbackRequest) -> Pick:
    """The pick in its canonical spelling."""
    fields, most = Fields(), MAX_SELECTED_IMAGES
    request_id = fields.uuid(request.request_id, "request_id")
    group_id = fields.uuid(request.group_id, "group_id")
    user_id = fields.user_id(request.user_id)
    given = request.selected_image_ids
    fields.require(len(given) <= most, "selected_image_ids", f"must be at most {most}")
    selected = tuple(fields.uuid(image_id, f"selected_image_ids[{i}]") for i, image_id in enumerate(given[:most]))
    for i in duplicates(selected):
        fields.refuse(f"selected_image_ids[{i}]", "is selected twice")
    fields.done()
    return Pick(request_id, group_id, user_id, selected)


def part_of(request: pb.ImportFeedbackRequest) -> Sequence[Pick | PermanentError]:
    """The picks of one message, or what is wrong with the form of each."""
    return [_pick_or_error(each) for each in request.requests]


def _pick_or_error(request: pb.SubmitFeedbackRequest) -> Pick | PermanentError:
    try:
        pick = pick_of(request)
        require(pick.user_id)
    except PermanentError as error:
        return error
    return pick


def group_query_of(request: pb.GetFeedbackRequest) -> tuple[str, str]:
    """The group, and the user who picked."""
    fields = Fields()
    group_id, user_id = fields.uuid(request.group_id, "group_id"), fields.user_id(request.user_id)
    fields.done()
    return group_id, user_id


def page_query_of(request: pb.ListFeedbackRequest) -> tuple[Picks, Page]:
    """The list, and the page of it."""
    fields = Fields()
    user_id = fields.user_id(request.user_id)
    group_id = fields.uuid(request.group_id, "group_id") if request.group_id else ""
    picks = Picks(user_id, group_id, request.show_superseded)
    page = page_of(fields, request.page_size, request.page_token, scope_of(picks))
    fields.done()
    return picks, page
