"""What a cluster's programs run in: a network of their own, a folder for files and logs, an end that they share.

Knows addresses, paths and processes; not what Kubernetes is.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.layout import ROOT

BUILD = ROOT / "build" / "cluster"
PROGRAMS = BUILD / "bin"
IMAGES = BUILD / "images"
ADDRESS = "10.99.0.1"  # of the machine in the cluster's network: of the control plane, and of what lies outside
BRIDGE = "lan0"
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "perfusion-cluster-"  # how the names of a cluster's cgroups begin
PODS = "10.245"  # each node's pods are in a network of their own below
ISOLATION = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
INSIDE = "PERFUSION_CLUSTER_INSIDE"  # set where the namespaces are the cluster's own


class ClusterError(RuntimeError):
    """A program of the cluster ended, or did not come up; the message has the end of its log."""


def isolated(command: Sequence[str]) -> int:
    """Runs a command in namespaces of its own. The shell that is their first process takes in orphans.

    Returns:
        its exit status
    """
    if os.geteuid() != 0:
        sys.exit("a cluster needs root, for namespaces, mounts and a network of its own")
    shell = ["sh", "-c", '"$@" & wait $!', "sh", *command]
    try:
        return subprocess.run([*ISOLATION, *shell], env=os.environ | {INSIDE: "1"}, check=False).returncode
    finally:
        _remove_cgroups()


def make_cgroup(name: str) -> str:
    """A cgroup of that name, in each hierarchy of version 1 or in the one of version 2; returns its path there.

    It goes when `isolated` ends.
    """
    unified = (CGROUPS / "cgroup.controllers").exists()
    if unified:
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
        (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))
    for hierarchy in [CGROUPS] if unified else [each for each in CGROUPS.iterdir() if each.is_dir()]:
        group = hierarchy / f"{CGROUP}{name}"
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of version 1, which no process may enter
            if not unified and (group / file).exists():
                (group / file).write_text((hierarchy / file).read_text())
    return f"/{CGROUP}{name}"


def _remove_cgroups() -> None:
    for group in {*CGROUPS.glob(f"{CGROUP}*"), *CGROUPS.glob(f"*/{CGROUP}*")}:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):  # a process is still ending
                os.rmdir(folder)


@dataclass
class Machine:
    """The inside of the namespaces.

    Args:
        home: a new folder for files and logs.
    """

    home: Path
    _processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not os.environ.get(INSIDE):
            raise ClusterError("a cluster changes the network that it runs in: start it by `python -m deploy.cluster`")
        shutil.rmtree(self.home, ignore_errors=True)
        (self.home / "logs").mkdir(parents=True)
        run("mount", "--make-rshared", "/")  # kubelets' mounts have to be seen in their containers
        networks = Path("/run/netns")  # a name here would outlive its network
        networks.mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", networks)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends what was started here; what it has started ends with the namespaces."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def start(self, name: str, *command: str | Path) -> None:
        """Starts a program with a log of its own."""
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def wait(self, what: str, is_so: Callable[[], bool], limit_s: float = 90.0) -> None:
        """Asks until it is so.

        Raises:
            ClusterError: a program has ended, or it has not become so in time.
        """
        until = time.monotonic() + limit_s
        while not is_so():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise ClusterError(f"{name} ended with {process.returncode}:\n{self.tail(name)}")
            if time.monotonic() > until:
                raise ClusterError(f"after {limit_s:.0f} s not yet: {what}; the logs are in {self.home / 'logs'}")
            time.sleep(0.1)

    def tail(self, name: str, lines: int = 20) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])

    def add_network(self, name: str, number: int) -> str:
        """A network namespace /run/netns/NAME, beside this one on the bridge; returns its address."""
        address = f"10.99.0.{10 + number}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"to-{name}", "master", BRIDGE, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "route", "add", "default", "via", ADDRESS)
        run("nsenter", f"--net=/run/netns/{name}", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        run("ip", "route", "add", f"{PODS}.{number}.0/24", "via", address)
        return address


def _environment() -> dict[str, str]:
    """With the cluster's own programs first: a machine may have others of their names."""
    return os.environ | {"PATH": os.pathsep.join([str(PROGRAMS), "/usr/sbin", "/sbin", os.environ["PATH"]])}


def run(*command: str | Path, **options: object) -> str:
    """Runs a program to its end; returns what it printed.

    Raises:
        ClusterError: it failed.
    """
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise ClusterError(f"{' '.join(map(str, command))[:300]}: {done.stderr.strip()[-2000:]}")
    return str(done.stdout)
