"""`python -m deploy.demo.studio`: start the merchant's page on the local platform, with two stores that have a history.

`make studio` runs it after starting the platform. Two people can log in: Lin acts for the minimalist store, Chen for
both. Each store has an item on sale, which two buyers have ordered. A store that has groups already gets no more, and
one that has sold something no item.
"""

import argparse
import sys
import time
from uuid import uuid4

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.client import PerFusion, PerFusionError
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb
from perfusion.v1.group_pb2 import Group
from perfusion.v1.items_service_pb2_grpc import ItemsServiceStub
from tqdm import tqdm

from deploy.local.clients import CALL_S, connect, put_on_sale
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import Layout
from deploy.local.parts import IDENTITY_PROVIDER, PERSONS, STUDIO
from lab.market.merchants import Merchant, case_study

DAYS_ON_SALE = 14
PROMPTS = ("dress,v-neck,slim-fit,long sleeves", "t-shirt,crew neck", "skirt")


def main() -> None:
    options = _parse()
    layout = Layout(options.name, options.port_offset)
    cluster = Cluster(layout, say=lambda line: print(line, flush=True))
    try:
        cluster.up([IDENTITY_PROVIDER.name, STUDIO.name])
        users, generation, feedback = (layout.address(name) for name in ("user_embedding", "generation", "feedback"))
        with (
            PerFusion(user_embedding=users, generation=generation, feedback=feedback, identity=layout.client) as client,
            connect(layout) as clients,
        ):
            for merchant in case_study():
                if next(client.list_groups(merchant.user_id, page_size=1), None) is None:
                    give_history(client, merchant)
                sell(clients.items, next(client.list_groups(merchant.user_id, page_size=1)))
    except (ClusterError, PerFusionError, grpc.RpcError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"\nThe studio: http://localhost:{layout.port('studio')}")
    print("Log in as " + " or ".join(f"{person['sub']} ({', '.join(person['merchants'])})" for person in PERSONS))


def give_history(client: PerFusion, merchant: Merchant) -> None:
    """A profile, and groups with picks of the two that the platform ranked first."""
    client.put_profile(merchant.user_id, merchant.features)
    for number, prompt in enumerate(tqdm(PROMPTS, desc=f"rounds of {merchant.user_id}", disable=None)):
        group = client.generate(merchant.user_id, prompt, seed=1000 * (number + 1)).group()
        client.submit_feedback(group, [candidate.image_id for candidate in group.candidates[:2]])


def sell(items: ItemsServiceStub, group: Group) -> None:
    """An item of the group's best picture, and two orders, unless its merchant has sold something before."""
    merchant = group.user_id
    if items.ListPresales(api.ListPresalesRequest(user_id=merchant, page_size=1), timeout=CALL_S).presales:
        return
    terms = pb.PresaleTerms(
        group_id=group.group_id,
        image_id=group.candidates[0].image_id,
        title=group.prompt.split(",")[0].capitalize(),
        description=f"{group.prompt}. Made when enough of you order it.",
        price=pb.Money(currency="EUR", minor_units=4900),
        min_units=5,
        max_units=20,
        close_time=Timestamp(seconds=int(time.time()) + DAYS_ON_SALE * 86_400),
        ships_within_days=45,
        decide_within_hours=48,
    )
    presale = put_on_sale(items, merchant, terms)
    for buyer, units in (("demo-1", 2), ("demo-2", 1)):
        order = api.PlaceOrderRequest(
            request_id=str(uuid4()),
            presale_id=presale.presale_id,
            buyer_id=buyer,
            units=units,
            payment_method="pm_card_visa",
        )
        items.PlaceOrder(order, timeout=CALL_S)


def _parse() -> argparse.Namespace:
    purpose = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.studio", description=purpose)
    parser.add_argument("--name", default="local", help="the running cluster's name")
    parser.add_argument("--port-offset", type=int, default=0, help="the running cluster's port offset")
    return parser.parse_args()


if __name__ == "__main__":
    main()
