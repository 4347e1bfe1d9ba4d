"""From a SubmitFeedbackRequest to a pick, or to InvalidArgument naming every wrong field.

It knows the proto's limits and the form of ids. picks.py checks the pick against its group.
"""

from perfusion.v1 import feedback_service_pb2 as pb

from contract.limits import MAX_SELECTED_IMAGES
from services.feedback.picks import Pick, duplicates
from services.runtime.fields import Fields


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
