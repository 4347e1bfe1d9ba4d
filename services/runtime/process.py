"""A service's process, from its settings to its exit status; what keeps it from starting is told in one line.

It knows what every service does alike. The service's `__main__` says what is served.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from opentelemetry.sdk.trace.export import SpanExporter

from contract import spans
from contract.kafka_access import KafkaAccessError
from services.runtime import logs
from services.runtime.addresses import CannotListen
from services.runtime.certificates import CertificateError
from services.runtime.identity import IdentityError, certificates_of
from services.runtime.settings import ProcessSettings, load

SettingsT = TypeVar("SettingsT", bound=ProcessSettings)

_log = logging.getLogger(__name__)


def run(service: str, kind: type[SettingsT], serve: Callable[[SettingsT], Awaitable[None]]) -> None:
    """Reads the settings, and serves until SIGTERM; exits with 2 for a wrong setting, with 1 for a failed start."""
    settings = load(kind)
    logs.configure(service, settings.log_level)

    async def served() -> None:
        await serve(settings)

    try:
        with _recorded(service, settings):
            asyncio.run(served())
    except (CertificateError, IdentityError, KafkaAccessError) as error:  # settings that do not go together
        print(error, file=sys.stderr)
        sys.exit(2)
    except (CannotListen, OSError) as error:
        _log.critical("cannot start: %s", error)
        sys.exit(1)


@contextmanager
def _recorded(service: str, settings: ProcessSettings) -> Iterator[None]:
    """Spans go where the settings say; nowhere by default."""
    if (to := settings.traces_to) is None:
        yield
        return
    recording = spans.Recording(service, _exporter(to, service, settings), settings.traces_share)
    try:
        yield
    finally:
        recording.close()


def _exporter(to: str, service: str, settings: ProcessSettings) -> SpanExporter:
    """A collector is spoken to with the process's own certificate, as the platform's other parts are."""
    if not to.startswith("https://") or (certificates := certificates_of(settings)) is None:
        return spans.exporter_to(to, service)
    return spans.Renewed(lambda: spans.exporter_to(to, service, certificates.for_channel()), certificates.current)
