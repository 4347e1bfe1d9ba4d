"""A single-node KRaft broker from Maven's jars: its configuration, its formatting, its topics.

Knows Kafka's tools; contract/topics.py lists the topics. Does not know the messages' meaning.
"""

import base64
import socket
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from contract.topics import TOPICS
from deploy.local.layout import ROOT, Layout, clean_environment

JARS = ROOT / "build" / "kafka-jars"
PARTITIONS = 3
ADMIN_TIMEOUT_MS = 3000

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller}
listeners=PLAINTEXT://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{broker},CONTROLLER://{host}:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def prepare(layout: Layout) -> None:
    """Write the configuration and, the first time, format the storage under a new cluster id."""
    home = _home(layout)
    home.mkdir(parents=True, exist_ok=True)
    ports = {"broker": layout.port("kafka"), "controller": layout.port("kafka_controller")}
    _properties(layout).write_text(PROPERTIES.format(data=home / "data", host=layout.host, **ports))
    if not any(JARS.glob("kafka_*.jar")):
        raise RuntimeError("Kafka's jars are missing: run `rm -f build/kafka-jars/fetched && make setup`")
    if not (home / "data" / "meta.properties").exists():
        tool = [
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            _cluster_id(),
            "-c",
            str(_properties(layout)),
        ]
        subprocess.run([*_java("-Xmx128m"), *tool], check=True, capture_output=True, env=environment(layout))


def command(layout: Layout) -> list[str]:
    return [*_java("-Xmx256m"), "kafka.Kafka", str(_properties(layout))]


def environment(_: Layout) -> dict[str, str]:
    return clean_environment()


def is_live(layout: Layout) -> bool:
    """Asks the broker, because its log says "started" before it answers."""
    try:
        socket.create_connection(
            (layout.host, layout.port("kafka")), timeout=1.0
        ).close()  # the client retries for long
        _admin(layout).close()
        return True
    except (KafkaError, OSError, ValueError):
        return False


def is_ready(layout: Layout) -> bool:
    try:
        with _admin(layout) as admin:
            return set(TOPICS) <= set(admin.list_topics())
    except (KafkaError, OSError, ValueError):
        return False


def create_topics(layout: Layout, say: Callable[[str], None]) -> None:
    """Creates the missing topics; if the broker answers "not yet", the caller that waits for it asks again."""
    try:
        with _admin(layout) as admin:
            missing = sorted(set(TOPICS) - set(admin.list_topics()))
            topics = [NewTopic(n, PARTITIONS, 1, topic_configs=dict(TOPICS[n])) for n in missing]
            if topics:
                say("creating " + ", ".join(missing))
                admin.create_topics(topics, timeout_ms=10_000)
    except KafkaError as error:
        if not error.retriable:
            raise


def _admin(layout: Layout) -> KafkaAdminClient:
    return KafkaAdminClient(
        bootstrap_servers=layout.address("kafka"),
        request_timeout_ms=ADMIN_TIMEOUT_MS,
        bootstrap_timeout_ms=ADMIN_TIMEOUT_MS,
    )


def _java(heap: str) -> list[str]:
    """One node and little traffic: a serial collector and the quick compiler start faster and leave the cores alone."""
    tuning = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
    return ["java", heap, *tuning, "-cp", f"{JARS}/*"]


def _home(layout: Layout) -> Path:
    """By port: KRaft remembers its controller's address in the data, so other ports need other data."""
    return layout.home / f"kafka-{layout.port('kafka')}"


def _properties(layout: Layout) -> Path:
    return _home(layout) / "server.properties"


def _cluster_id() -> str:
    """22 characters of URL-safe base64; a leading dash would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
