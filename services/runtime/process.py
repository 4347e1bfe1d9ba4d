"""A service's process, from its settings to its exit status; what keeps it from starting is told in one line.

It knows what every service does alike. The service's `__main__` says what is served.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from contract.kafka_access import KafkaAccessError
from services.runtime import logs
from services.runtime.addresses import CannotListen
from services.runtime.certificates import CertificateError
from services.runtime.identity import IdentityError
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
        asyncio.run(served())
    except (CertificateError, IdentityError, KafkaAccessError) as error:  # settings that do not go together
        print(error, file=sys.stderr)
        sys.exit(2)
    except (CannotListen, OSError) as error:
        _log.critical("cannot start: %s", error)
        sys.exit(1)
