"""How many orders a minute one item takes from many buyers at once, and whether it is oversold.

    python -m deploy.benchmarks.orders                     1,000 units, 1,200 buyers, on a cluster of its own
    python -m deploy.benchmarks.orders --units 100 --buyers 150

Each buyer orders one unit and pays by a card that pays at once, through the provider of payments of this machine, over
HTTP. A fifth of them comes too late. At the end the orders that were accepted are counted, by the answers, by the
service, and by the provider's own totals; they must be the same and no more than there are units.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import grpc
import httpx
from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.client import PerFusion
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb
from tqdm import tqdm

from deploy.benchmarks.cpu import process_s
from deploy.local.authority import Authority
from deploy.local.clients import Clients, connect, put_on_sale
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout

OUT = ROOT / "build" / "bench" / "orders.json"
MERCHANT, PRICE = "bench-orders", 1999
NEEDED = ("items", "payment_provider", "kafka")  # once the picture is there
AIM = 1000  # orders a minute
DAY_S = 86_400


def main() -> None:
    options = _parse()
    cluster = Cluster(Layout("bench-orders", options.port_offset), say=print)
    shutil.rmtree(cluster.layout.home, ignore_errors=True)
    try:
        cluster.up()
        with connect(cluster.layout) as clients:
            presale = _on_sale(clients, _picture(cluster.layout), options.units)
            for part in set(cluster.states()) - set(NEEDED):
                cluster.stop(part)
            report = _measure(cluster, clients, presale, options)
    except (ClusterError, grpc.RpcError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    finally:
        cluster.down()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    if report["oversold"]:
        sys.exit("error: what was accepted, counted and paid is not the same, or more than there is")


def _picture(layout: Layout) -> tuple[str, str]:
    """A group that was made for it, and a picture of it."""
    users, generation = layout.address("user_embedding"), layout.address("generation")
    with PerFusion(user_embedding=users, generation=generation, identity=layout.client) as client:
        client.put_profile(MERCHANT, {"style": "luxury", "price_level": "premium"})
        group = client.generate(MERCHANT, "dress,v-neck", num_candidates=1).group()
    return group.group_id, group.candidates[0].image_id


def _on_sale(clients: Clients, picture: tuple[str, str], units: int) -> pb.Presale:
    """An item whose sale is far from its end."""
    terms = pb.PresaleTerms(
        group_id=picture[0],
        image_id=picture[1],
        title="Linen dress",
        price=pb.Money(currency="EUR", minor_units=PRICE),
        min_units=1,
        max_units=units,
        close_time=Timestamp(seconds=int(time.time()) + DAY_S),
        ships_within_days=30,
    )
    return put_on_sale(clients.items, MERCHANT, terms)


def _measure(cluster: Cluster, clients: Clients, presale: pb.Presale, options: argparse.Namespace) -> dict[str, Any]:
    pids = {name: pid for name in NEEDED if (pid := cluster.process(name).pid)}

    def buy(buyer: int) -> tuple[str, float]:
        request = api.PlaceOrderRequest(
            request_id=str(uuid4()),
            presale_id=presale.presale_id,
            buyer_id=f"buyer-{buyer}",
            units=1,
            payment_method="pm_card_visa",
        )
        begin = time.monotonic()
        try:
            order = clients.items.PlaceOrder(request, timeout=60).order
        except grpc.RpcError as error:
            return error.code().name, time.monotonic() - begin
        return pb.OrderState.Name(order.state).removeprefix("ORDER_STATE_"), time.monotonic() - begin

    before, begin = {name: process_s(pid) for name, pid in pids.items()}, time.monotonic()
    with ThreadPoolExecutor(options.at_once) as pool:
        outcomes = list(tqdm(pool.map(buy, range(options.buyers)), total=options.buyers, desc="buyers", disable=None))
    seconds = time.monotonic() - begin
    counts = Counter(outcome for outcome, _ in outcomes)
    taken = sorted(took for outcome, took in outcomes if outcome == "SECURED")
    found = clients.items.GetPresale(api.GetPresaleRequest(presale_id=presale.presale_id), timeout=30).presale
    paid = _held(cluster.layout) // PRICE
    accepted = counts["SECURED"]
    return {
        "units": options.units,
        "buyers": options.buyers,
        "at_once": options.at_once,
        "outcomes": dict(counts),
        "counted_by_the_service": found.secured_units,
        "paid_at_the_provider": paid,
        "oversold": not accepted == found.secured_units == paid == min(options.units, options.buyers),
        "orders_a_minute": round(accepted / seconds * 60),
        "aim": AIM,
        "seconds_of_an_order": {
            "median": round(statistics.median(taken), 3),
            "p95": round(taken[int(len(taken) * 0.95)], 3),
        },
        "cpu_ms_an_order": {
            name: round((process_s(pid) - before[name]) / accepted * 1000, 1) for name, pid in pids.items()
        },
    }


def _held(layout: Layout) -> int:
    """What the provider holds or has charged, minor units."""
    key = Authority(layout.home).payment_key.read_text()
    answer = httpx.get(f"{layout.payment_url}/bank/totals", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    totals = answer.raise_for_status().json().get("EUR", {"held": 0, "charged": 0})
    return int(totals["held"] + totals["charged"])


def _parse() -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m deploy.benchmarks.orders", description=__doc__, formatter_class=shown
    )
    parser.add_argument("--units", type=int, default=1000, help="of the item (default: %(default)s)")
    parser.add_argument("--buyers", type=int, default=1200, help="who order one each (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=32, help="of them (default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=700, help="of the cluster (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
