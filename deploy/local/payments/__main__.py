"""Runs the provider of payments of one machine: wiring only.

python -m deploy.local.payments --home build/local/payments --port 8091 --post-to http://localhost:8080/payments

`home` holds its books (bank.sqlite) and its secrets, which must be there: `key`, of the API, and `webhook-secret`, by
which events are signed. It listens on this machine only.
"""

import argparse
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from deploy.local.payments.bank import DELAY_US, HOLD_US, Bank
from deploy.local.payments.books import SECOND_US
from deploy.local.payments.server import Api, Postman, application
from deploy.local.payments.store import Store

HOST = "127.0.0.1"
KEY, WEBHOOK_SECRET = "key", "webhook-secret"  # files in its home


async def _serve(arguments: argparse.Namespace) -> None:
    home: Path = arguments.home
    key, secret = [(home / name).read_text().strip() for name in (KEY, WEBHOOK_SECRET)]
    store = Store(home / "bank.sqlite")
    bank = Bank(
        books=store.books,
        pages=f"http://{HOST}:{arguments.port}/actions",
        hold_us=round(arguments.hold_s * SECOND_US),
        delay_us=round(arguments.delay_s * SECOND_US),
    )
    app = application(Api(bank, key, store.transaction))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=HOST,
            port=arguments.port,
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    delivering = asyncio.create_task(Postman(bank, arguments.post_to, secret, store.transaction).run())
    await server.serve()
    delivering.cancel()
    store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.payments", description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, required=True, help="folder of its books and secrets")
    parser.add_argument("--port", type=int, required=True, help="at which it listens, on this machine")
    parser.add_argument("--post-to", default="", help="where events are posted; nowhere if not given")
    parser.add_argument("--hold-s", type=float, default=HOLD_US / SECOND_US, help="how long money is held, seconds")
    parser.add_argument(
        "--delay-s", type=float, default=DELAY_US / SECOND_US, help="until delayed payments are decided"
    )
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
