"""The exception for what a measurement is given, below the contract's base class."""

from contract.errors import InputError


class MeasurementError(InputError):
    """A design, ratings, events or a plan that cannot be measured by; the message names the file and the remedy."""
