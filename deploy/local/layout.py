"""Where a local cluster keeps its files and on which ports it listens.

Knows names, paths and numbers only; starts nothing and opens nothing.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from contract.release import current_number

ROOT = Path(__file__).resolve().parents[2]

PORTS = {
    "user_embedding": 50051,
    "generation": 50052,
    "ranking": 50053,
    "feedback": 50054,
    "items": 50055,
    "studio": 8080,
    "identity_provider": 8090,
    "payment_provider": 8091,
    "triton_grpc": 8001,
    "triton_metrics": 8002,
    "kafka": 9092,
    "kafka_controller": 9093,
}
CLIENT = "client"  # a cluster's folder
PASSES = ("PERFUSION_LOG_LEVEL", "PERFUSION_TRACES_TO", "PERFUSION_TRACES_SHARE")  # settings that a person gives to all
METRICS_OFFSET = 1000  # a service's Prometheus port is its gRPC port plus this


@dataclass(frozen=True)
class Layout:
    """One cluster: its name gives it files of its own; its port offset lets it run beside other clusters."""

    name: str = "local"
    port_offset: int = 0
    model_repository: Path = ROOT / "model_repository"
    patience_s: float = 120.0  # for loading a model; beyond the usual, also for every inference and call
    host: str = "127.0.0.1"  # at which it listens, and is called

    @property
    def home(self) -> Path:
        return ROOT / "build" / self.name

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def pids(self) -> Path:
        return self.home / "pids"

    @property
    def client(self) -> Path:
        """What a client on this machine calls with: its certificate, and a token for every merchant."""
        return self.home / CLIENT

    @property
    def repository_file(self) -> Path:
        """Names a model repository other than the project's, if the cluster serves from one."""
        return self.home / "repository"

    @property
    def shared_memory(self) -> str:
        """How the names of its Triton's shared memory begin, by which its model processes are told from others'."""
        return f"perfusion_{self.name}_{self.port('triton_grpc')}_"

    def port(self, name: str) -> int:
        return PORTS[name] + self.port_offset

    def address(self, name: str) -> str:
        return f"{self.host}:{self.port(name)}"

    def metrics_port(self, service: str) -> int:
        return self.port(service) + METRICS_OFFSET

    @property
    def issuer(self) -> str:
        """Of logins at the studio."""
        return f"http://127.0.0.1:{self.port('identity_provider')}"

    @property
    def studio_url(self) -> str:
        """Of the studio, for browsers."""
        return f"http://localhost:{self.port('studio')}"

    @property
    def payment_url(self) -> str:
        """Of the provider of payments, for services and buyers."""
        return f"http://127.0.0.1:{self.port('payment_provider')}"

    def release(self) -> int:
        """The live release; ManifestError when there is none."""
        return current_number(self.model_repository)


def venv(name: str) -> Path:
    """A virtual environment of the project: "" is the main one, "services" has no torch, "triton" has numpy 1."""
    return ROOT / (f".venv-{name}" if name else ".venv")


def site_packages(name: str) -> Path:
    return venv(name) / "lib" / "python3.11" / "site-packages"


def clean_environment() -> dict[str, str]:
    """The caller's environment without variables for another interpreter or cluster; what PASSES passes."""
    drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    own = {k for k in os.environ if k.startswith("PERFUSION_") and k not in PASSES}
    return {k: v for k, v in os.environ.items() if k not in drop and k not in own}
