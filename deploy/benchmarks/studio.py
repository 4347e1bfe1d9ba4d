"""What the merchant's page adds to the API, and how many readers follow rounds at once.

    python -m deploy.benchmarks.studio                       20 pairs, 200 readers of 50 rounds, on a cluster of its own
    python -m deploy.benchmarks.studio --pairs 5 --rounds 10

First picture: in turn, one round by perfusion.client, from its call to its group, and one of the same size in Chromium,
from the click until the first picture of the group is with the page; and the same of the API twice (A/A). Readers: each
round is begun by a form and followed by READERS connections that read its stream of events to the end; a reader is lost
if its stream ends without the round's last state. Prints both; build/bench/studio.json has all.
"""

import argparse
import asyncio
import json
import re
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from perfusion.client import PerFusion
from tqdm import tqdm

from deploy.benchmarks.cpu import process_s
from deploy.demo.browsing import Person, chromium
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import IDENTITY_PROVIDER, STUDIO

OUT = ROOT / "build" / "bench"
PROMPT = "dress,v-neck"
FEATURES = {"style": "luxury", "price_level": "premium", "main_category": "dress"}
READERS = 4  # of each round
ROUNDS_A_MERCHANT = 2
AIM = 1.2
LAST_S = 180.0


def main() -> None:
    options = _parse()
    cluster = Cluster(Layout("bench-studio", options.port_offset), say=print)
    shutil.rmtree(cluster.layout.home, ignore_errors=True)
    merchants = [f"merchant-{number}" for number in range(-(-options.rounds // ROUNDS_A_MERCHANT))]
    try:
        cluster.up()
        cluster.up([IDENTITY_PROVIDER.name, STUDIO.name])
        client = _client(cluster.layout)
        for merchant in merchants:
            client.put_profile(merchant, FEATURES)
        for merchant in merchants:  # a person each
            httpx.put(f"{cluster.layout.issuer}/users/{merchant}", json={"merchants": [merchant]}).raise_for_status()
        report = {"first_picture": first_picture(cluster.layout, client, merchants[0], options.pairs)}
        report["readers"] = asyncio.run(readers(cluster, merchants, options.rounds))
    except (ClusterError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    finally:
        cluster.down()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "studio.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def first_picture(layout: Layout, client: PerFusion, merchant: str, pairs: int) -> dict[str, Any]:
    """Seconds of both, and their ratio, medians."""
    api: list[float] = []
    again: list[float] = []
    page: list[float] = []
    with chromium() as browser:
        person = Person(browser, _home(layout)).log_in(merchant)
        for number in tqdm(range(pairs + 1), desc="pairs of rounds", disable=None):
            taken = [_by_api(client, merchant), _by_page(person), _by_api(client, merchant)]
            if number:  # the first warms up
                for times, seconds in zip((api, page, again), taken, strict=True):
                    times.append(seconds)
    medians = [statistics.median(times) for times in (api, page, again)]
    return {
        "api_s": round(medians[0], 3),
        "page_s": round(medians[1], 3),
        "ratio": round(medians[1] / statistics.median([*api, *again]), 3),
        "aim": AIM,
        "api_over_api": round(medians[2] / medians[0], 3),
        "pairs": pairs,
    }


def _by_api(client: PerFusion, merchant: str) -> float:
    begin = time.perf_counter()
    client.generate(merchant, PROMPT, preview_every_n_steps=4).group()
    return time.perf_counter() - begin


def _by_page(person: Person) -> float:
    person.goes_to("/")
    person.types(PROMPT)
    person.page.wait_for_load_state("networkidle")
    begin = time.perf_counter()
    with person.page.expect_response(re.compile(r"/groups/.*\.png")) as picture:
        person.page.locator("[data-send]").click()
    picture.value.finished()
    taken_s = time.perf_counter() - begin
    person.page.wait_for_load_state("networkidle")
    return taken_s


async def readers(cluster: Cluster, merchants: list[str], rounds: int) -> dict[str, Any]:
    """Whether every reader saw its round's end, how long that took, and what the studio computed."""
    layout = cluster.layout
    pid = cluster.process(STUDIO.name).pid
    assert pid is not None
    before_s, begin = process_s(pid), time.perf_counter()
    told = await asyncio.gather(*(_merchant(layout, merchant, ROUNDS_A_MERCHANT) for merchant in merchants))
    ends = [end for of_merchant in told for end in of_merchant]
    return {
        "rounds": rounds,
        "readers": len(ends),
        "lost": sum(end != "done" for end in ends),
        "seconds": round(time.perf_counter() - begin, 1),
        "studio_cpu_s": round(process_s(pid) - before_s, 2),
    }


async def _merchant(layout: Layout, merchant: str, rounds: int) -> list[str]:
    async with _logged_in(layout, merchant) as browser:
        page = (await browser.get("/")).text
        token = re.search(r'name="form_token" value="([^"]+)"', page)
        assert token is not None, page
        ids = [str(uuid4()) for _ in range(rounds)]
        for request_id in ids:
            form = {"form_token": token[1], "request_id": request_id, "prompt": PROMPT}
            sent = await browser.post("/rounds", data=form, headers={"origin": _home(layout)})
            assert sent.status_code == 303, sent.text
        return await asyncio.gather(*(_read(browser, each) for each in ids for _ in range(READERS)))


async def _read(browser: httpx.AsyncClient, request_id: str) -> str:
    """The last stage that one reader hears."""
    stage = ""
    async with browser.stream("GET", f"/rounds/{request_id}/events", timeout=LAST_S) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                stage = json.loads(line[5:])["stage"]
    return stage


@asynccontextmanager
async def _logged_in(layout: Layout, merchant: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=_home(layout), limits=limits, timeout=60.0) as browser:
        provider = (await browser.get("/login")).headers["location"]
        back = (await browser.post(provider, data={"sub": merchant})).headers["location"]
        assert (await browser.get(back)).status_code == 303
        yield browser


def _client(layout: Layout) -> PerFusion:
    users, generation = layout.address("user_embedding"), layout.address("generation")
    return PerFusion(user_embedding=users, generation=generation, identity=layout.client)


def _home(layout: Layout) -> str:
    return f"http://localhost:{layout.port('studio')}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.benchmarks.studio", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, help="rounds of each kind")
    parser.add_argument("--rounds", type=int, default=50, help="rounds that are followed at once")
    parser.add_argument("--port-offset", type=int, default=700, help="added to every port")
    return parser.parse_args()


if __name__ == "__main__":
    main()
