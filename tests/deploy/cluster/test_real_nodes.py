"""The platform as real pods on two real nodes: the demonstration through it, and changes under load.

In order: one test finds the cluster as the one before has left it. Figures go into build/cluster/report.json.
"""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from perfusion.client import PerFusion, PerFusionError
from perfusion.v1.events_pb2 import FeedbackGiven

from contract.topics import FEEDBACK
from deploy.cluster.machine import BUILD
from deploy.demo.demonstration import show
from deploy.local.clients import read_events
from tests.deploy.cluster import load, platform
from tests.deploy.cluster.platform import SERVICES, Platform
from tests.deploy.k8s.manifests import NAME

MERCHANTS = 2
METRIC = "perfusion_rpc_handled_total"
REPORT: dict[str, Any] = {}
PICKED: list[str] = []  # groups whose pick was acknowledged
CONNECTION_AGE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Platform]:
    began = time.monotonic()
    with platform.running() as running:
        REPORT["seconds_to_ready"] = round(time.monotonic() - began, 1)
        yield running
    (BUILD / "report.json").write_text(json.dumps(REPORT, indent=2) + "\n")


def under_load(cluster: Platform, name: str, change: Callable[[], object]) -> load.Load:
    """Merchants play 5 s before a change, while it happens, and 10 s after it; the report gets the figures."""
    with load.running(cluster.layout.client, MERCHANTS) as played:
        time.sleep(5)
        began = time.monotonic()
        change()
        took = time.monotonic() - began
        time.sleep(10)
    figures = played.figures()
    PICKED.extend(played.picks)
    REPORT[name] = {"seconds": round(took, 1)} | figures
    print(name, json.dumps(REPORT[name]))
    assert figures["failures"] == []
    assert figures["rounds"] > 0
    return played


def test_the_demonstration_plays_through_the_names_of_the_services(cluster: Platform) -> None:
    show(cluster.layout, BUILD / "demo")
    summary = json.loads((BUILD / "demo" / "summary.json").read_text())
    REPORT["demo"] = {"feedback_events_read_back": summary["feedback_events_read_back"]} | {
        store["user_id"]: store for store in summary["stores"]
    }
    assert summary["feedback_events_read_back"] > 0


def test_replicas_take_equal_shares(cluster: Platform) -> None:
    """With two merchants, of a channel each: the calls of each channel go to all pods in turn."""
    before = {part: handled(cluster, part) for part in SERVICES}
    with load.running(cluster.layout.client, 4, pause_s=0.2) as played:
        time.sleep(40)
    assert played.failures == []
    shares = {}
    for part in SERVICES:
        after = handled(cluster, part)
        gained = sorted(after[pod] - before[part].get(pod, 0.0) for pod in after)
        shares[part] = gained
        assert gained[0] > 0.25 * sum(gained), f"{part}: {gained}"
    REPORT["calls of each pod"] = shares


def handled(cluster: Platform, part: str) -> dict[str, float]:
    """How many calls each pod of a part has answered, health checks left out."""
    found = {}
    for pod in cluster.pods(part):
        port = 1000 + load.PORTS[part.replace("-", "_")]
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        own = [line for line in lines if line.startswith(METRIC + "{") and "/perfusion.v1." in line]
        found[pod["metadata"]["name"]] = sum(float(line.rpartition(" ")[2]) for line in own)
    return found


@pytest.mark.parametrize("part", [*SERVICES, "triton"])
def test_no_call_fails_while_a_part_is_restarted(cluster: Platform, part: str) -> None:
    def restart() -> None:
        cluster.kubectl("rollout", "restart", f"deployment/{part}")
        cluster.wait_rolled_out(part)

    under_load(cluster, f"restart of {part}", restart)


def test_no_call_fails_while_generation_is_scaled(cluster: Platform) -> None:
    """Up to three, whose third pod then gets calls, and back to two."""

    def scale() -> None:
        cluster.kubectl("scale", "deployment/generation", "--replicas=3")
        cluster.wait_rolled_out("generation")
        newest = max(cluster.pods("generation"), key=lambda pod: pod["metadata"]["creationTimestamp"])
        name = newest["metadata"]["name"]
        until = time.monotonic() + CONNECTION_AGE_S + 30
        while not handled(cluster, "generation").get(name) and time.monotonic() < until:
            time.sleep(1)
        assert handled(cluster, "generation")[name] > 0, "the third pod gets no calls"
        cluster.kubectl("scale", "deployment/generation", "--replicas=2")
        cluster.wait_rolled_out("generation")
        time.sleep(15)

    under_load(cluster, "scaling of generation", scale)


def test_a_part_that_was_away_for_long_is_found_at_once(cluster: Platform) -> None:
    """Its name had no address meanwhile."""
    cluster.kubectl("scale", "deployment/ranking", "--replicas=0")
    cluster.kubectl("wait", "--for=delete", "pod", f"--selector={NAME}=ranking", "--timeout=120s")
    addresses = {service: load.address(service) for service in load.PORTS}
    with PerFusion(**addresses, identity=cluster.layout.client) as client:
        user = load.users(1)[0]

        def is_served() -> bool:
            try:
                client.generate(user, "dress", timeout_s=20.0).group()
            except PerFusionError:
                return False
            return True

        time.sleep(45)
        assert not is_served()
        cluster.kubectl("scale", "deployment/ranking", "--replicas=2")
        cluster.wait_rolled_out("ranking")
        began = time.monotonic()
        cluster.plane.machine.wait("a round is served", is_served, 60.0)
    REPORT["seconds to the first round after ranking was away"] = round(time.monotonic() - began, 1)
    assert time.monotonic() - began < 15.0


def test_no_call_fails_while_another_release_goes_live(cluster: Platform) -> None:
    cluster.push(2)

    def switch() -> None:
        cluster.wait_for_release(2)
        cluster.releases("load", "2")
        cluster.releases("promote", "2")
        time.sleep(10)
        cluster.releases("rollback")

    played = under_load(cluster, "release switch and back", switch)
    assert {release for release, _ in played.rounds} == {1, 2}


def test_no_call_fails_while_a_node_is_drained(cluster: Platform) -> None:
    name = cluster.pods("triton")[0]["spec"]["nodeName"]

    def drain() -> None:
        cluster.plane.kubectl("drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        cluster.wait_rolled_out(*platform.PARTS)

    under_load(cluster, "drain of a node", drain)
    cluster.plane.kubectl("uncordon", name)


def test_every_acknowledged_pick_is_on_kafka_once(cluster: Platform) -> None:
    """Those of all the tests before."""
    records = [
        record
        for user in load.users(MERCHANTS)
        for record in read_events(cluster.layout, FEEDBACK, FeedbackGiven, user)
    ]
    ids = [record.headers["event-id"] for record in records]
    groups = {record.message.group_id for record in records}
    REPORT["picks"] = {"acknowledged": len(PICKED), "on Kafka": len(ids)}
    assert len(ids) == len(set(ids))
    assert PICKED and set(PICKED) <= groups
