"""How well SuggestPhrases agrees with merchants' true utilities.

    python -m deploy.benchmarks.phrase_suggestions        100 merchants × 3 prompts, on a cluster of its own

Merchants that no training used ask for suggestions on prompts that leave many kinds open. The gain of a phrase is the
true utility of its value to this merchant minus the mean over its kind's values, so random phrases gain nothing. A
phrase that no garment can have beside the prompt gains nothing either. Prints and writes as JSON, with 95 % intervals
over pairs of merchants:

    agreement     Spearman's correlation of the scores with the gains, over all phrases of a prompt
    top           mean gain of the best suggestions
    at_most       mean gain of the phrases with the largest gains
    liked         share of the best suggestions with a positive gain
    out_of_place  share of the best suggestions that no garment can have beside the prompt
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
from perfusion.v1.generation_service_pb2 import SuggestPhrasesRequest
from tqdm import tqdm

from contract.limits import MAX_SUGGESTIONS
from deploy.demo.playing import CALL_TIMEOUT_S, put_profile
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from lab.generation.splits import Rounds, Size
from lab.market.attributes import applies
from lab.market.merchants import Merchant
from lab.market.prompts import parse
from lab.market.taste import gain
from training.common.errors import ModelError
from training.common.resampling import Resampler, interval

TOP = 5  # suggestions that count as the best


def measure(clients: Clients, rounds: Rounds, tick: Callable[[], None]) -> dict[str, dict[str, float]]:
    """All of a split's merchants and prompts; `tick` after each merchant."""
    found: list[dict[str, float]] = []
    for who, given in zip(rounds.merchants, rounds.given, strict=True):
        put_profile(clients, who)
        found += [_suggested(clients, who, rounds.prompts[n]) for n in given]
        tick()
    sample = Resampler(np.repeat(rounds.pairs, rounds.given.shape[1]))
    return {name: interval(*sample.mean(np.array([[one[name] for one in found]]))) for name in found[0]}


def _suggested(clients: Clients, who: Merchant, prompt: str) -> dict[str, float]:
    from scipy.stats import spearmanr  # takes seconds to load; --help needs none

    query = SuggestPhrasesRequest(user_id=who.user_id, prompt=prompt, max_suggestions=MAX_SUGGESTIONS)
    suggestions = clients.generation.SuggestPhrases(query, timeout=CALL_TIMEOUT_S).suggestions
    gains = np.array([_gain(who, prompt, each.phrase) for each in suggestions])  # (P,) best first, NaN: out of place
    out_of_place, gains = np.isnan(gains), np.nan_to_num(gains)
    top = gains[:TOP]
    return {
        "agreement": float(spearmanr([each.score for each in suggestions], gains).statistic),
        "top": top.mean(),
        "at_most": np.sort(gains)[-TOP:].mean(),
        "liked": (top > 0).mean(),
        "out_of_place": out_of_place[:TOP].mean(),
    }


def _gain(who: Merchant, prompt: str, phrase: str) -> float:
    ((kind, value),) = parse(phrase).items()
    said = parse(prompt) | {kind: value}
    in_place = "category" not in said or all(applies(kind, said) for kind in said)
    return gain(who, kind, value) if in_place else np.nan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="(default: %(default)s)")
    parser.add_argument("--merchants", type=int, default=100, help="an even number (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/eval/suggestions.json"))
    arguments = parser.parse_args()
    cluster = Cluster(Layout("bench", arguments.port_offset, arguments.repository.resolve()), say=print)
    try:
        rounds = Rounds.of("unseen", Size(arguments.merchants, arguments.prompts))
        cluster.up()
        with connect(cluster.layout) as clients, tqdm(total=arguments.merchants, unit="merchant") as bar:
            found = measure(clients, rounds, bar.update)
    except (ClusterError, ModelError, grpc.RpcError) as error:
        print(f"not asked: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    for name, of in found.items():
        print(f"{name:<13} {of['mean']:6.3f} [{of['low']:.3f}, {of['high']:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
