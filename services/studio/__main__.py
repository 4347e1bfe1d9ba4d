"""Runs the studio: wiring only.

python -m services.studio
"""

from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from services.runtime import process
from services.runtime.certificates import Certificates
from services.runtime.clients import open_channel
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.health import Dependency
from services.runtime.identity import IdentityError, certificates_of, read_secret
from services.runtime.workers import repeat
from services.studio.adapters.calls import Calls, Token
from services.studio.adapters.issuer import OidcIssuer
from services.studio.adapters.items import GrpcItems
from services.studio.adapters.keepsakes import SqlKeepsakes
from services.studio.adapters.platform import GrpcPlatform
from services.studio.adapters.rounds import SqlRounds
from services.studio.adapters.sessions import SqlSessions
from services.studio.adapters.shops import SqlShops
from services.studio.adapters.studies import SqlStudies
from services.studio.adapters.tables import SCHEMA
from services.studio.catalogue import Catalogue
from services.studio.entering import Entering
from services.studio.following import Following
from services.studio.metrics import StudioMetrics
from services.studio.ports import Issuer, Items, Platform
from services.studio.seeing import SEND_S, Sightings
from services.studio.serving import WebServer
from services.studio.settings import Settings
from services.studio.showing import Pictures
from services.studio.visits import Studio
from services.studio.web import application, static_path

SWEEP_S = 600.0  # between two looks for sessions that have ended


def build(
    settings: Settings, platform: Platform, items: Items, issuer: Issuer, certificates: Certificates | None
) -> WebServer:
    """The studio, not yet started."""
    registry = CollectorRegistry()
    database = Database(
        settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=settings.database_migrate
    )
    pictures = Pictures(platform)
    following = Following(
        platform,
        SqlRounds(database),
        now_us,
        timeout_s=settings.round_timeout_s,
        lease_s=settings.round_lease_s,
        most=settings.rounds_per_merchant,
        on_group=pictures.remember,
    )
    metrics = StudioMetrics(registry)
    metrics.readers.set_function(lambda: following.readers)
    sightings = Sightings(items, now_us, metrics)
    entering = Entering(SqlSessions(database), now_us, settings.session_idle_s, settings.session_age_s)
    studio = Studio(
        public_url=settings.public_url,
        static_path=static_path(),
        platform=platform,
        catalogue=Catalogue(platform),
        following=following,
        pictures=pictures,
        keepsakes=SqlKeepsakes(database, now_us),
        entering=entering,
        issuer=issuer,
        metrics=metrics,
        max_readers=settings.max_readers,
        items=items,
        shops=SqlShops(database, now_us),
        studies=SqlStudies(database, now_us),
        sightings=sightings,
        payment_methods=tuple(filter(None, map(str.strip, (settings.payment_methods or "").split(",")))),
    )
    database_answers = Dependency("database", database.check)
    return WebServer(
        settings,
        application(studio),
        {
            "Pages": [database_answers],
            "Rounds": [database_answers, Dependency("generation service", platform.check)],
            "Shop": [database_answers, Dependency("items service", items.check)],
        },
        registry,
        workers=[
            following.take_over,
            partial(repeat, entering.sweep, name="sweep of sessions", interval_s=SWEEP_S),
            partial(repeat, sightings.send, name="sending what the shop saw", interval_s=SEND_S),
        ],
        on_stop=following.stop,
        closers=[sightings.send, database.close],
        certificates=certificates,
    )


def _issuer(settings: Settings) -> Issuer:
    if settings.oidc_issuer is None:
        raise IdentityError("PERFUSION_OIDC_ISSUER must name who merchants log in with")
    secret = settings.oidc_client_secret
    return OidcIssuer(
        settings.oidc_issuer,
        settings.oidc_client_id,
        None if secret is None else read_secret("PERFUSION_OIDC_CLIENT_SECRET", secret),
        settings.oidc_merchants_claim,
        timeout_s=settings.service_timeout_s,
    )


async def _serve(settings: Settings) -> None:
    certificates = certificates_of(settings)
    if certificates is not None and settings.token is None:
        raise IdentityError("PERFUSION_TOKEN must name a file with the token that goes with PERFUSION_CERTIFICATES")
    if urlsplit(settings.public_url).path:
        raise IdentityError("PERFUSION_PUBLIC_URL must have no path: the studio answers at the root of its host")
    issuer = _issuer(settings)
    async with AsyncExitStack() as stack:
        users, generation, feedback, items = [
            await stack.enter_async_context(
                open_channel(address, max_message_bytes=settings.max_message_bytes, certificates=certificates)
            )
            for address in (
                *(settings.user_embedding_address, settings.generation_address),
                *(settings.feedback_address, settings.items_address),
            )
        ]
        token, timeout_s = Token(settings.token), settings.service_timeout_s
        platform = GrpcPlatform(users, generation, feedback, token, timeout_s=timeout_s)
        sold = GrpcItems(items, Calls("items service", token, timeout_s=timeout_s))
        await build(settings, platform, sold, issuer, certificates).run()


if __name__ == "__main__":
    process.run("studio", Settings, _serve)
