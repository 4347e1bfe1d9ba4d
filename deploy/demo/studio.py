"""`python -m deploy.demo.studio`: start the merchant's page on the local platform, with two stores that have a history.

`make studio` runs it after starting the platform. Two people can log in: Lin acts for the minimalist store, Chen for
both. A store that has groups already gets no more.
"""

import argparse
import sys

from perfusion.client import PerFusion, PerFusionError
from tqdm import tqdm

from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import Layout
from deploy.local.parts import IDENTITY_PROVIDER, PERSONS, STUDIO
from lab.market.merchants import Merchant, case_study

PROMPTS = ("dress,v-neck,slim-fit,long sleeves", "t-shirt,crew neck", "skirt")


def main() -> None:
    options = _parse()
    layout = Layout(options.name, options.port_offset)
    cluster = Cluster(layout, say=lambda line: print(line, flush=True))
    try:
        cluster.up([IDENTITY_PROVIDER.name, STUDIO.name])
        users, generation, feedback = (layout.address(name) for name in ("user_embedding", "generation", "feedback"))
        with PerFusion(
            user_embedding=users, generation=generation, feedback=feedback, identity=layout.client
        ) as client:
            for merchant in case_study():
                if next(client.list_groups(merchant.user_id, page_size=1), None) is None:
                    give_history(client, merchant)
    except (ClusterError, PerFusionError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"\nThe studio: http://localhost:{layout.port('studio')}")
    print("Log in as " + " or ".join(f"{person['sub']} ({', '.join(person['merchants'])})" for person in PERSONS))


def give_history(client: PerFusion, merchant: Merchant) -> None:
    """A profile, and groups with picks of the two that the platform ranked first."""
    client.put_profile(merchant.user_id, merchant.features)
    for number, prompt in enumerate(tqdm(PROMPTS, desc=f"rounds of {merchant.user_id}", disable=None)):
        group = client.generate(merchant.user_id, prompt, seed=1000 * (number + 1)).group()
        client.submit_feedback(group, [candidate.image_id for candidate in group.candidates[:2]])


def _parse() -> argparse.Namespace:
    purpose = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.studio", description=purpose)
    parser.add_argument("--name", default="local", help="the running cluster's name")
    parser.add_argument("--port-offset", type=int, default=0, help="the running cluster's port offset")
    return parser.parse_args()


if __name__ == "__main__":
    main()
