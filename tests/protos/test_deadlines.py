"""How much time a call gets: the call's own, the client's, or the method's."""

import pytest
from perfusion.client import PerFusion
from perfusion.v1.generation_service_pb2 import GetGroupResponse, ListGroupsResponse

from tests.protos.running import serving


@pytest.mark.parametrize(
    ("of_client", "of_call", "group_s", "list_s"), [(None, None, 30, 10), (7.0, None, 7, 7), (7.0, 3.0, 3, 3)]
)
def test_the_nearest_word_counts(of_client, of_call, group_s, list_s):
    left_s = []

    def get(request, context):
        left_s.append(context.time_remaining())
        return GetGroupResponse()

    def listed(request, context):
        left_s.append(context.time_remaining())
        return ListGroupsResponse()

    with serving(GetGroup=get, ListGroups=listed) as address, PerFusion(address, timeout_s=of_client) as client:
        client.get_group("g", timeout_s=of_call)
        assert list(client.list_groups("store-1", timeout_s=of_call)) == []
    for left, limit_s in zip(left_s, (group_s, list_s), strict=True):
        assert limit_s * 0.5 < left <= limit_s * 1.02
