"""A single-node KRaft broker from Maven's jars: its configuration, its formatting, its topics, who may use them.

Every connection is TLS with a certificate of the platform's parts on both sides; who a client is, its certificate says.
The broker's own name may do everything, and is what this module calls with. Knows Kafka's tools; contract/topics.py
lists the topics, and what each part may do. Does not know the messages' meaning.
"""

import base64
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    NewTopic,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import KafkaError

from contract.kafka_access import AUTHORITY, CERTIFICATE, KEY, KafkaAccess
from contract.topics import RIGHTS, TOPICS
from deploy.local.authority import Authority, write_secret
from deploy.local.layout import ROOT, Layout, clean_environment

NAME = "kafka"  # whose certificate it is
COLLECTOR = "collect"  # as whom groups and picks are read, also by people and tests
USERS = (NAME, *RIGHTS)  # all whom it knows
JARS = ROOT / "build" / "kafka-jars"
PARTITIONS = 3
NODE = "1"
NETWORK_THREADS = 3  # of each listener; each has its own view of the certificate
ADMIN_TIMEOUT_MS = 3000
RENEWAL_LIMIT_S, POLL_S = 10.0, 0.1

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.bootstrap.servers={host}:{controller}
listeners=PARTS://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=PARTS://{host}:{broker},CONTROLLER://{host}:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PARTS
listener.security.protocol.map=PARTS:SSL,CONTROLLER:SSL
ssl.keystore.type=PEM
ssl.keystore.location={keys}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=service\\\\/([a-z_]+)$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{name}
num.network.threads={threads}
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
    _authority(layout).prepare(USERS)
    _write_keys(layout)
    places = {"data": home / "data", "keys": _keys(layout), "authority": _certificates(layout, NAME) / AUTHORITY}
    ports = {"broker": layout.port("kafka"), "controller": layout.port("kafka_controller")}
    properties(layout).write_text(
        PROPERTIES.format(node=NODE, name=NAME, threads=NETWORK_THREADS, host=layout.host, **places, **ports)
    )
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
            str(properties(layout)),
        ]
        subprocess.run([*_java("-Xmx128m"), *tool], check=True, capture_output=True, env=environment(layout))


def command(layout: Layout) -> list[str]:
    return [*_java("-Xmx256m"), "kafka.Kafka", str(properties(layout))]


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
            return set(TOPICS) <= set(admin.list_topics()) and set(_rules(admin)) == set(RULES)
    except (KafkaError, OSError, ValueError):
        return False


def settle(layout: Layout, say: Callable[[str], None]) -> None:
    """Creates missing topics, and makes the rights those of the contract's table, no more and no less.

    If the broker answers "not yet", the caller that waits for it asks again.
    """
    try:
        with _admin(layout) as admin:
            missing = sorted(set(TOPICS) - set(admin.list_topics()))
            topics = [NewTopic(n, PARTITIONS, 1, topic_configs=dict(TOPICS[n])) for n in missing]
            if topics:
                say("creating " + ", ".join(missing))
                admin.create_topics(topics, timeout_ms=10_000)
            _keep_rules(admin)
    except KafkaError as error:
        if not error.retriable:
            raise


def _keep_rules(admin: KafkaAdminClient) -> None:
    there = set(_rules(admin))
    if lacking := [rule for rule in RULES if rule not in there]:
        failed = admin.create_acls(lacking)["failed"]
        if failed:
            raise failed[0]()
    if others := there - set(RULES):
        exact = [ACLFilter(o.principal, o.host, o.operation, o.permission_type, o.resource_pattern) for o in others]
        admin.delete_acls(exact)


def renew(layout: Layout) -> None:
    """Returns when a broker that runs shows its certificate as it is now to every new connection.

    Raises:
        KafkaError: it does not answer, or does not.
    """
    _write_keys(layout)
    override = ["listener.name.parts.ssl.keystore.location"]  # there is none: every change of a broker's settings has
    with _admin(layout) as admin:  # it read the files of all its listeners again
        told = admin.reset_configs([ConfigResource(ConfigResourceType.BROKER, NODE, override)], raise_on_unknown=False)
    own = ssl.PEM_cert_to_DER_cert((_certificates(layout, NAME) / CERTIFICATE).read_text())
    end = time.monotonic() + RENEWAL_LIMIT_S
    threads = [port for port in ("kafka", "kafka_controller") for _ in range(NETWORK_THREADS)]  # they take turns
    while any(shown(layout, port) != own for port in threads):
        if time.monotonic() > end:
            raise KafkaError(f"the broker still shows its certificate of before: {told}")
        time.sleep(POLL_S)


def shown(layout: Layout, port: str) -> bytes | None:
    """The certificate, DER, that a new connection to the port is shown; None where there is none."""
    own = _certificates(layout, NAME)
    context = ssl.create_default_context(cafile=str(own / AUTHORITY))
    context.load_cert_chain(str(own / CERTIFICATE), str(own / KEY))
    try:
        with (
            socket.create_connection((layout.host, layout.port(port)), ADMIN_TIMEOUT_MS / 1000) as plain,
            context.wrap_socket(plain, server_hostname=layout.host) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None


def access(layout: Layout, part: str) -> KafkaAccess:
    """How a part reaches the broker."""
    return KafkaAccess(layout.address("kafka"), _certificates(layout, part))


def _admin(layout: Layout) -> KafkaAdminClient:
    return KafkaAdminClient(
        **access(layout, NAME).config,
        request_timeout_ms=ADMIN_TIMEOUT_MS,
        bootstrap_timeout_ms=ADMIN_TIMEOUT_MS,
    )


def _rules(admin: KafkaAdminClient) -> list[ACL]:
    anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    found, error = admin.describe_acls(ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, anything))
    if error.errno:
        raise error()
    return list(found)


def _rules_of_the_table() -> list[ACL]:
    allow, anywhere = ACLPermissionType.ALLOW, "*"
    return [
        ACL(f"User:{part}", anywhere, operation, allow, ResourcePattern(ResourceType.TOPIC, topic))
        for part, rights in RIGHTS.items()
        for operation, topics in ((ACLOperation.READ, rights.reads), (ACLOperation.WRITE, rights.writes))
        for topic in sorted(topics)
    ]


RULES = _rules_of_the_table()  # to read or write is to describe, too


def _authority(layout: Layout) -> Authority:
    return Authority(layout.home, addresses=(layout.host,))


def _certificates(layout: Layout, part: str) -> Path:
    return _authority(layout).folder(part)


def _keys(layout: Layout) -> Path:
    """The broker's key and certificate in one file, as Kafka wants them."""
    return _certificates(layout, NAME) / "keys.pem"


def _write_keys(layout: Layout) -> None:
    own = _certificates(layout, NAME)
    write_secret(_keys(layout), (own / KEY).read_bytes() + (own / CERTIFICATE).read_bytes())


def _java(heap: str) -> list[str]:
    """One node and little traffic: a serial collector and the quick compiler start faster and leave the cores alone."""
    tuning = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
    return ["java", heap, *tuning, "-cp", f"{JARS}/*"]


def _home(layout: Layout) -> Path:
    """By port: KRaft remembers its controller's address in the data, so other ports need other data."""
    return layout.home / f"kafka-{layout.port('kafka')}"


def properties(layout: Layout) -> Path:
    return _home(layout) / "server.properties"


def _cluster_id() -> str:
    """22 characters of URL-safe base64; a leading dash would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
