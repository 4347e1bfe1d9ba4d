"""Every error that a service raises has a reason of its own, and every reason an error."""

from perfusion.v1.error_reason_pb2 import ERROR_REASON_UNSPECIFIED, ErrorReason

from services.runtime.errors import MessageTooLarge, PermanentError, ResourceExhausted, RetryableError, ServiceError


def raised() -> list[type[ServiceError]]:
    """The classes that are raised: the leaves of the tree."""
    return [*PermanentError.__subclasses__(), *RetryableError.__subclasses__()]


def test_errors_and_reasons_pair_up() -> None:
    reasons = [error.reason for error in raised()]
    assert sorted(reasons) == sorted(set(ErrorReason.values()) - {ERROR_REASON_UNSPECIFIED})


def test_the_tree_has_no_other_branches() -> None:
    assert set(ServiceError.__subclasses__()) == {PermanentError, RetryableError}


def test_an_error_that_a_service_keeps_to_itself_reaches_callers_as_its_parent() -> None:
    for error in raised():
        assert all((own.code, own.reason) == (error.code, error.reason) for own in error.__subclasses__())


def test_a_status_code_says_whether_to_try_again_but_for_what_is_full() -> None:
    """RESOURCE_EXHAUSTED is both; clients know the two by RetryInfo."""
    codes = [error.code for error in raised() if error is not MessageTooLarge]
    assert len(set(codes)) == len(codes)
    assert MessageTooLarge.code == ResourceExhausted.code
