"""Every error that a service raises has a reason of its own, and every reason an error."""

from perfusion.v1.error_reason_pb2 import ERROR_REASON_UNSPECIFIED, ErrorReason

from services.runtime.errors import PermanentError, RetryableError, ServiceError


def raised() -> list[type[ServiceError]]:
    """The classes that are raised: the leaves of the tree."""
    return [*PermanentError.__subclasses__(), *RetryableError.__subclasses__()]


def test_errors_and_reasons_pair_up() -> None:
    reasons = [error.reason for error in raised()]
    assert sorted(reasons) == sorted(set(ErrorReason.values()) - {ERROR_REASON_UNSPECIFIED})


def test_the_tree_has_no_other_branches() -> None:
    assert set(ServiceError.__subclasses__()) == {PermanentError, RetryableError}
    assert not any(error.__subclasses__() for error in raised())


def test_each_status_code_has_one_error() -> None:
    assert len({error.code for error in raised()}) == len(raised())
