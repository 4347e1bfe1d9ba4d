"""Some malformed requests to every method of the running platform; `make fuzz` sends 10,000 and more."""

from deploy.fuzzing.sending import FAULTS, fuzz, methods
from deploy.local.cluster import Cluster

EACH = 8


def test_malformed_requests_get_a_status_that_is_no_fault(cluster: Cluster) -> None:
    found = fuzz(cluster.layout, EACH * len(methods()), seed=20)
    assert found["faults"] == [] and not FAULTS & found["codes"].keys()
    assert found["health_changed"] == []
    assert found["codes"]["INVALID_ARGUMENT"] > found["requests"] / 3
    assert set(found["codes_by_method"]) == {method.path for method in methods()}
