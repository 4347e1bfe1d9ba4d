"""The platform as real pods on two real nodes, with PostgreSQL, Kafka and an object store beside the cluster.

What is outside listens at the machine's address in the cluster's network, as a managed database would.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from contract.repository import Repository
from contract.topics import RIGHTS
from deploy.cluster import node
from deploy.cluster.control_plane import ControlPlane
from deploy.cluster.machine import ADDRESS, BUILD, ClusterError, Machine
from deploy.local import kafka_broker
from deploy.local.authority import ISSUER, Authority
from deploy.local.layout import ROOT, Layout
from deploy.local.process import Process
from services import migrations
from tests.deploy.cluster import overlays
from tests.deploy.cluster.load import DOMAIN, address
from tests.deploy.k8s.manifests import NAME, Object
from tests.repositories import copy_of, stage
from tests.s3 import S3, running_s3
from tests.services.postgres import programs, running_postgres

HOME = BUILD / "real"
IMAGES = ("services", "triton-wheel")
NODES = 2
SERVICES = ("user-embedding", "generation", "ranking", "feedback")
PARTS = (*SERVICES, "triton", "releases")
PATIENCE = "--timeout=300s"


class Names(Layout):
    """The platform's addresses inside the cluster, for what knows a local cluster's."""

    def address(self, name: str) -> str:
        return super().address(name) if name.startswith("kafka") else address(name)


@dataclass
class Platform:
    """A running one."""

    plane: ControlPlane
    layout: Names
    s3: S3
    store: str  # of releases

    def kubectl(self, *arguments: str) -> str:
        return self.plane.kubectl("--namespace=perfusion", *arguments)

    def pods(self, part: str) -> list[Object]:
        """Those that are not told to go."""
        found = self.plane.get("pods", "--namespace=perfusion", f"--selector={NAME}={part}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_rolled_out(self, *parts: str) -> None:
        for part in parts:
            self.kubectl("rollout", "status", f"deployment/{part}", PATIENCE)

    def push(self, release: int) -> None:
        """Stores a release of the project's repository, as who exported it does."""
        command = [sys.executable, "-m", "deploy.releases.agent", "push", str(release), "--store", self.store]
        command += ["--repository", str(self.layout.model_repository)]
        subprocess.run(command, env=os.environ | self.s3.environment, check=True, cwd=ROOT)

    def wait_for_release(self, release: int) -> None:
        """Until it is where an operator's commands look for it."""
        manifest = f"/models/releases/{release}/manifest.json"
        has = ("exec", "deployment/releases", "--container=releases", "--", "test", "-e", manifest)

        def is_there() -> bool:
            with suppress(ClusterError):
                self.kubectl(*has)
                return True
            return False

        self.plane.machine.wait(f"release {release} is there", is_there)

    def releases(self, *arguments: str) -> str:
        """A command of deploy.releases, where an operator gives it."""
        command = (
            "python",
            "-m",
            "deploy.releases",
            *arguments,
            "--repository",
            "/models",
            "--triton",
            "triton-all:8001",
        )
        return self.kubectl("exec", "deployment/releases", "--container=releases", "--", *command)


def repository() -> Path:
    """The newest export under the numbers 1 and 2: what differs between releases is not the matter here."""
    exported = Repository(ROOT / "model_repository")
    copy = copy_of(exported, HOME / "model_repository", [], live=1)
    for number in (1, 2):
        stage(exported, max(exported.numbers()), copy, number)
    return copy.root


@contextmanager
def running() -> Iterator[Platform]:
    """Everything up, release 1 live."""
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(HOME))
        plane = ControlPlane(machine)
        node.allow_proxies(plane)
        nodes = [node.start(plane, number, IMAGES) for number in range(1, NODES + 1)]
        plane.start_dns()
        overlays.install_definitions(plane)

        bin_folder = programs()
        assert bin_folder, "PostgreSQL's programs are not installed"
        postgres = stack.enter_context(running_postgres(bin_folder, ADDRESS))
        s3 = stack.enter_context(running_s3(machine.log("s3"), ADDRESS))
        layout = Names("cluster/real/outside", 0, repository(), host=ADDRESS)
        authority = Authority(layout.home, (DOMAIN, "perfusion.svc"), (ADDRESS,))
        authority.prepare([part.replace("-", "_") for part in PARTS])
        start_kafka(layout, machine)

        bucket = s3.new_bucket("perfusion")
        database = f"postgresql://{postgres.user}@{ADDRESS}/postgres"
        platform = Platform(plane, layout, s3, f"{bucket}/releases")
        platform.push(1)
        for name in nodes:
            node.wait_ready(plane, name)
        secrets = {
            **{f"{part}-certificate": files(authority.folder(part.replace("-", "_"))) for part in PARTS},
            "studio-certificate": files(authority.studio),
            "perfusion-authority": {"tls.crt": (authority.studio / "ca.crt").read_text()},
            "perfusion-studio": {
                "token": (authority.studio / "token").read_text(),
                "oidc_client_secret": authority.login_secret.read_text(),
            },
            "perfusion-clients-authority": {"tls.crt": authority.clients.read_text()},
            "perfusion-token-keys": {"keys.json": authority.tokens.read_text(), "issuer": ISSUER},
            "perfusion-database": dict.fromkeys(migrations.SERVICES, database),
            "perfusion-database-owners": dict.fromkeys(migrations.SERVICES, database),
            "perfusion-payments": {
                "key": authority.payment_key.read_text(),
                "webhook_secret": authority.webhook_secret.read_text(),
            },
            "perfusion-kafka": {"bootstrap": layout.address("kafka")},
            **{f"kafka-{part.replace('_', '-')}": user_of(authority.folder(part)) for part in RIGHTS},
            "perfusion-cluster-ca-cert": {"ca.crt": (authority.folder(kafka_broker.NAME) / "ca.crt").read_text()},
            "perfusion-object-store": {
                "pictures": f"{bucket}/pictures",
                "releases": platform.store,
                "lake": f"{bucket}/lake",
                "original": f"{bucket}/original",
            },
            "perfusion-object-store-keys": s3.environment,
        }
        overlays.apply(plane, overlays.built(overlays.MACHINE), secrets)
        platform.wait_rolled_out("releases")
        machine.wait(
            "Triton runs", lambda: _are_running(platform.pods("triton")), 300.0
        )  # ready: once a release serves
        platform.wait_for_release(1)
        platform.releases("load", "1")
        platform.releases("promote", "1")
        platform.wait_rolled_out(*PARTS, "studio")
        yield platform


def files(folder: Path) -> dict[str, str]:
    """A certificate as cert-manager keeps it."""
    return {name: (folder / name).read_text() for name in ("tls.crt", "tls.key", "ca.crt")}


def user_of(folder: Path) -> dict[str, str]:
    """A certificate as Strimzi keeps that of a KafkaUser."""
    return {f"user.{end}": (folder / f"tls.{end}").read_text() for end in ("crt", "key")}


def start_kafka(layout: Names, machine: Machine) -> None:
    kafka_broker.prepare(layout)
    process = Process("kafka", layout.pids / "kafka", layout.logs / "kafka.log")
    process.start(kafka_broker.command(layout), kafka_broker.environment(layout), ROOT)
    machine.wait("Kafka answers", lambda: kafka_broker.is_live(layout))
    kafka_broker.settle(layout, lambda _: None)
    machine.wait("Kafka's topics and rights are there", lambda: kafka_broker.is_ready(layout))


def _are_running(pods: list[Object]) -> bool:
    """All of a part's containers run, ready or not."""
    statuses = [each for pod in pods for each in pod["status"].get("containerStatuses", [])]
    return bool(statuses) and all("running" in each["state"] for each in statuses)
