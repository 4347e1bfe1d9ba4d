"""Who is let in by the local Kafka, and what each may do there: the contract's table, no less and no more."""

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    NewTopic,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import AuthorizationError, ClusterAuthorizationFailedError, KafkaError
from perfusion.v1.events_pb2 import FeedbackGiven

from contract.kafka_access import KafkaAccess, KafkaAccessError
from contract.repository import Repository
from contract.topics import DEAD_LETTERS, FEEDBACK, GROUPS, RIGHTS, TOPICS
from deploy.local import kafka_broker
from deploy.local.authority import Authority
from deploy.local.clients import read_events
from deploy.local.cluster import Cluster
from deploy.local.kafka_broker import NAME, access
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import is_serving, service_environment, venv
from deploy.local.process import Process
from deploy.releases import announcing
from deploy.releases.history import Change
from services.runtime.errors import Unavailable
from services.runtime.events import Event, KafkaEvents
from services.runtime.records import KafkaRecords
from tests.integration.client import wait_until
from tests.ports import free_offset

LIMITS = {"bootstrap_timeout_ms": 2000, "request_timeout_ms": 2000}
STRANGER = "ranking"  # a part that has nothing to do on Kafka


@pytest.fixture(scope="module")
def cluster(exported: Repository) -> Iterator[Cluster]:
    Cluster(Layout("test-kafka-rights")).down()  # what an interrupted session left
    layout = Layout("test-kafka-rights", free_offset(), exported.root)
    shutil.rmtree(layout.home, ignore_errors=True)
    running = Cluster(layout)
    try:
        running.up(["kafka"])
        Authority(layout.home).prepare([STRANGER])
        yield running
    finally:
        running.down()


@pytest.fixture
def layout(cluster: Cluster) -> Layout:
    return cluster.layout


def admin(kafka: KafkaAccess) -> KafkaAdminClient:
    return KafkaAdminClient(**kafka.config, **LIMITS)


def event(topic: str, key: str = "ada") -> Event:
    return Event(topic, key, "7d9d5c3e-0000-4000-8000-000000000000", FeedbackGiven.DESCRIPTOR.full_name, b"", None)


def without_certificate(layout: Layout) -> dict[str, Any]:
    config = access(layout, "feedback").config
    return {name: config[name] for name in config if name not in ("ssl_certfile", "ssl_keyfile")}


def of_another_authority(layout: Layout, folder: Path) -> dict[str, Any]:
    """Signed as the super user by somebody else."""
    Authority(folder).prepare([NAME])
    own = KafkaAccess(layout.address("kafka"), Authority(folder).folder(NAME)).config
    return own | {"ssl_cafile": access(layout, NAME).config["ssl_cafile"]}


@pytest.mark.parametrize(
    "config",
    [
        lambda layout, _: KafkaAccess(layout.address("kafka")).config,
        lambda layout, _: without_certificate(layout),
        lambda layout, _: KafkaAccess(layout.address("kafka"), layout.client).config,
        of_another_authority,
    ],
    ids=["in clear text", "without certificate", "a client's certificate", "another authority's"],
)
def test_nobody_else_is_let_in(
    config: Callable[[Layout, Path], dict[str, Any]], layout: Layout, tmp_path: Path
) -> None:
    with pytest.raises(KafkaError):
        KafkaAdminClient(**config(layout, tmp_path), **LIMITS)
    for port in ("kafka", "kafka_controller"):
        assert not is_let_in(config(layout, tmp_path), layout, port)
        assert is_let_in(access(layout, "feedback").config, layout, port)


def is_let_in(config: dict[str, Any], layout: Layout, port: str) -> bool:
    """Whether a connection stays, that says no more than who it is."""
    with socket.create_connection((layout.host, layout.port(port)), 10) as plain:
        connection = plain
        if "ssl_cafile" in config:
            context = ssl.create_default_context(cafile=config["ssl_cafile"])
            if "ssl_certfile" in config:
                context.load_cert_chain(config["ssl_certfile"], config["ssl_keyfile"])
            connection = context.wrap_socket(plain, server_hostname=layout.host)
        else:
            plain.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff"))  # which APIs there are
        with connection:
            connection.settimeout(1.0)
            try:
                return connection.recv(1) == b"\0"  # of an answer's length; an alert of TLS begins otherwise
            except TimeoutError:
                return True
            except OSError:
                return False


def test_a_broker_that_is_not_the_one_named_is_not_spoken_to(layout: Layout, tmp_path: Path) -> None:
    Authority(tmp_path).prepare(["feedback"])
    own = access(layout, "feedback").config
    believed = own | {"ssl_cafile": str(Authority(tmp_path).folder("feedback") / "ca.crt")}
    with pytest.raises(KafkaError):
        KafkaAdminClient(**believed, **LIMITS)


@pytest.mark.parametrize("part", [*RIGHTS, STRANGER])
def test_a_part_may_do_what_the_table_says_and_nothing_else(part: str, layout: Layout) -> None:
    with closing(admin(access(layout, part))) as client:
        described = {topic["name"]: topic for topic in client.describe_topics(list(TOPICS))}
        seen = set(client.list_topics())
        cluster_wide = client.describe_cluster()["authorized_operations"]
    rights = RIGHTS.get(part)
    for topic in TOPICS:
        wanted = set[str]()
        if rights is not None:
            wanted |= {"READ", "DESCRIBE"} if topic in rights.reads else set()
            wanted |= {"WRITE", "DESCRIBE"} if topic in rights.writes else set()
        assert set(described[topic].get("authorized_operations") or ()) == wanted, topic
        assert (topic in seen) == bool(wanted)
    assert not cluster_wide


def joins_a_group(kafka: KafkaAccess) -> None:
    with closing(KafkaConsumer(FEEDBACK, **kafka.config, **LIMITS, group_id="others")) as consumer:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            consumer.poll(500)


def begins_a_transaction(kafka: KafkaAccess) -> None:
    producer = KafkaProducer(**kafka.config, **LIMITS, transactional_id="others", max_block_ms=5000)
    try:
        producer.init_transactions()
    finally:
        producer.close(timeout=0)


def as_admin(work: Callable[[KafkaAdminClient], object]) -> Callable[[KafkaAccess], None]:
    def run(kafka: KafkaAccess) -> None:
        with closing(admin(kafka)) as client:
            answer = work(client)
        if isinstance(answer, dict) and answer.get("failed"):
            raise answer["failed"][0]()
        if isinstance(answer, dict) and "broker" in answer and "AuthorizationFailed" in str(answer):
            raise ClusterAuthorizationFailedError(str(answer))

    return run


EVERYTHING = ACL(
    "User:feedback", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, GROUPS)
)
BROKER = ConfigResource(ConfigResourceType.BROKER, "1", {"log.cleaner.threads": "2"})


@pytest.mark.parametrize("part", ["feedback", "collect"])
@pytest.mark.parametrize(
    "work",
    [
        as_admin(lambda client: client.delete_topics([FEEDBACK])),
        as_admin(lambda client: client.create_topics([NewTopic("perfusion.own.v1", 1, 1)])),
        as_admin(lambda client: client.create_acls([EVERYTHING])),
        as_admin(lambda client: client.alter_configs([BROKER], raise_on_unknown=False)),
        joins_a_group,
        begins_a_transaction,
    ],
    ids=["deletes a topic", "makes a topic", "grants a right", "changes the broker", "joins a group", "transaction"],
)
def test_a_part_rules_nothing(part: str, work: Callable[[KafkaAccess], None], layout: Layout) -> None:
    with pytest.raises(AuthorizationError):
        work(access(layout, part))


@pytest.mark.parametrize(("part", "topic"), [(STRANGER, FEEDBACK), ("feedback", GROUPS), ("user_embedding", FEEDBACK)])
async def test_an_event_of_who_may_not_write_it_is_refused_at_once_and_told_of(
    part: str, topic: str, layout: Layout
) -> None:
    events = KafkaEvents(access(layout, part), (topic,), timeout_s=20)
    begin = time.monotonic()
    with pytest.raises(Unavailable, match=f"does not let this service write {topic}: .*contract/topics.py"):
        await events.check()
    with pytest.raises(Unavailable, match=r"does not let this service write .*contract/topics.py.*KafkaUser"):
        await events.publish(event(topic))
    assert time.monotonic() - begin < 10
    await events.close()


def denials(layout: Layout, part: str) -> int:
    """How often the broker has noted that it refused something."""
    return (layout.logs / "kafka.log").read_text().count(f"Principal = User:{part} is Denied")


async def test_who_may_reads_and_writes_and_who_may_not_read_is_told(layout: Layout) -> None:
    usual = ("user_embedding", "feedback")
    before = [denials(layout, part) for part in usual]
    events = KafkaEvents(access(layout, "feedback"), (FEEDBACK,), timeout_s=20)
    await events.check()
    await events.publish(event(FEEDBACK, "bea"))
    await events.close()
    for part in ("user_embedding", "collect", "feedback"):
        if part == "feedback":
            assert [denials(layout, part) for part in usual] == before
        records = KafkaRecords(access(layout, part), (FEEDBACK,), timeout_s=20)
        if part == "feedback":
            with pytest.raises(Unavailable, match=f"does not let this service read {FEEDBACK}"):
                await records.bounds()
        else:
            bounds = await records.bounds()
            await records.start({partition: held.begin for partition, held in bounds.items()})
            found, _ = await records.read()
            assert b"bea" in {record.key for record in found}
        await records.close()


def test_a_release_that_another_part_announces_stays_owed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "message", lambda change: FeedbackGiven(user_id="x"))
    owed = [Change.__new__(Change)]
    object.__setattr__(owed[0], "event_id", "7d9d5c3e-0000-4000-8000-000000000000")
    object.__setattr__(owed[0], "number", 1)
    with pytest.raises(announcing.AnnouncementError, match=r"needs the right to write perfusion\.releases\.v1"):
        announcing._within(20.0, access(layout, "feedback"), owed, lambda _: None)


def test_a_service_with_anothers_certificate_is_not_serving_and_says_why(layout: Layout) -> None:
    environment = service_environment(layout, "feedback")
    Authority(layout.home).prepare(["feedback"])
    shown = str(access(layout, STRANGER).certificates)
    process = Process("feedback", layout.pids / "feedback.pid", layout.logs / "feedback.log")
    command = [str(venv("services") / "bin" / "python"), "-m", "services.feedback"]
    process.start(command, environment | {"PERFUSION_KAFKA_CERTIFICATES": shown}, ROOT)
    try:
        said = f"does not let this service write {FEEDBACK}"
        wait_until(lambda: any(said in line and "SubmitFeedback" in line for line in process.tail(50)), 60)
        assert not is_serving(layout, "feedback")
    finally:
        process.stop(20)


def test_rights_are_the_tables_again_after_a_change_by_hand(cluster: Cluster, layout: Layout) -> None:
    own = kafka_broker.RULES[0]
    with closing(admin(access(layout, NAME))) as client:
        client.create_acls([EVERYTHING])
        client.delete_acls([own])
        assert not kafka_broker.is_ready(layout)
    cluster.up(["kafka"])
    assert kafka_broker.is_ready(layout)


async def test_renewed_certificates_are_used_without_a_restart(layout: Layout) -> None:
    before = [kafka_broker.shown(layout, port) for port in ("kafka", "kafka_controller")]
    events = KafkaEvents(access(layout, "feedback"), (FEEDBACK,), timeout_s=20)
    await events.publish(event(FEEDBACK))
    Authority(layout.home).prepare(kafka_broker.USERS, anew=True)
    kafka_broker.renew(layout)
    after = [kafka_broker.shown(layout, port) for port in ("kafka", "kafka_controller")]
    assert not set(before) & set(after) and len(set(after)) == 1
    await events.publish(event(FEEDBACK))  # on the connection that there was
    await events.check()  # on a new one
    await events.close()


def test_a_broker_of_before_comes_up_with_its_records_and_lets_nobody_in_unknown(
    cluster: Cluster, layout: Layout
) -> None:
    """Its data are those of a broker in clear text without rights."""
    cluster.stop("kafka")
    file = kafka_broker.properties(layout)
    shutil.rmtree(file.parent)
    kafka_broker.prepare(layout)
    clear = [line for line in file.read_text().splitlines() if not line.startswith(("ssl.", "authorizer.", "super."))]
    text = "\n".join(clear).replace("PARTS:SSL,CONTROLLER:SSL", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT")
    file.write_text(text.replace("PARTS", "PLAINTEXT").replace("allow.everyone.if.no.acl.found=false", ""))
    process = cluster.process("kafka")
    process.start(kafka_broker.command(layout), kafka_broker.environment(layout), ROOT)
    kafka = KafkaAccess(layout.address("kafka"))
    wait_until(lambda: is_listening(layout), 60)
    with closing(KafkaAdminClient(**kafka.config, bootstrap_timeout_ms=60_000)) as client:
        client.create_topics([NewTopic(FEEDBACK, 1, 1)])
    with closing(KafkaProducer(**kafka.config, acks="all")) as producer:
        producer.send(FEEDBACK, b"", key=b"early", partition=0).get(timeout=60)
    process.stop(20)
    cluster.up(["kafka"])
    assert [record.key for record in read_events(layout, FEEDBACK, FeedbackGiven, "early")] == ["early"]
    with pytest.raises(KafkaError):
        admin(kafka)
    with closing(KafkaConsumer(**access(layout, "collect").config)) as consumer:
        assert consumer.end_offsets([TopicPartition(DEAD_LETTERS, 0)]) == {TopicPartition(DEAD_LETTERS, 0): 0}


def is_listening(layout: Layout) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((layout.host, layout.port("kafka"))) == 0


def test_brokers_of_other_machines_are_spoken_to_with_a_certificate_alone(layout: Layout, tmp_path: Path) -> None:
    for here in ("localhost:9092", "127.0.0.1:9092,[::1]:9092"):
        assert KafkaAccess(here).config == {"bootstrap_servers": here.split(",")}
    for there in ("kafka:9092", "localhost:9092,10.0.0.7:9092", "[fd00::7]:9092"):
        with pytest.raises(KafkaAccessError, match="--kafka-certificates must name a folder"):
            KafkaAccess(there)
        assert KafkaAccess(there, access(layout, "feedback").certificates).config["security_protocol"] == "SSL"
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name, part in (("tls.crt", "feedback"), ("ca.crt", "feedback"), ("tls.key", "collect")):
        (mixed / name).write_bytes((Path(str(access(layout, part).certificates)) / name).read_bytes())
    with pytest.raises(KafkaAccessError, match=r"must hold tls\.crt, tls\.key and ca\.crt \(PEM\) that fit together"):
        KafkaAccess("kafka:9092", mixed)
