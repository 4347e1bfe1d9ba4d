"""Why a step with a release is refused.

ReleaseError          a step that was refused; the message says why and how things stand
└── ServerError       a Triton refuses, computes something else than the contract says, or does not answer
    ├── LateError          it has not answered in time
    └── NotLoadedError     it has not loaded what is asked for
"""


class ReleaseError(RuntimeError):
    """A step that was refused."""


class ServerError(ReleaseError):
    """A Triton that does not do what it was asked."""


class LateError(ServerError):
    """A Triton that has not answered in time, for all that is known because it is busy."""


class NotLoadedError(ServerError):
    """A Triton that says itself that it has not loaded a version."""
