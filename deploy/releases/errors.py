"""Why a step with a release is refused.

ReleaseError          a step that was refused; the message says why and how things stand
└── ServerError       a Triton refuses, computes something else than the contract says, or does not answer
"""


class ReleaseError(RuntimeError):
    """A step that was refused."""


class ServerError(ReleaseError):
    """A Triton that does not do what it was asked."""
