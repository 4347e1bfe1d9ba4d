"""Kubernetes' control plane as processes of this machine: etcd, the API server, the controllers, the scheduler; a DNS.

Knows these programs' options and certificates; no node.
"""

import json
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.cluster.machine import ADDRESS, PROGRAMS, ClusterError, Machine, run

PORT = 16443
SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
DOMAIN = "cluster.local"
ETCD = "http://127.0.0.1:12379"
ETCD_PEERS = "http://127.0.0.1:12380"
DNS_READY = "127.0.0.1:8181"

COREFILE = f"""\
{DOMAIN}:53 {{
    bind {ADDRESS}
    errors
    ready {DNS_READY}
    kubernetes {DOMAIN} {{
        kubeconfig KUBECONFIG
        ttl 1
    }}
}}
"""


@dataclass
class Authority:
    """Who is who: certificates for the cluster's programs, in a folder."""

    folder: Path
    _ca: trustme.CA = field(default_factory=lambda: trustme.CA(organization_name="perfusion-cluster"))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._ca.cert_pem.write_to_path(str(self.ca))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM
        private, public = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
        self.accounts_key.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
        self.accounts_public.write_bytes(key.public_key().public_bytes(pem, public))

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def accounts_key(self) -> Path:
        """Signs the tokens of service accounts."""
        return self.folder / "accounts.key"

    @property
    def accounts_public(self) -> Path:
        return self.folder / "accounts.pub"

    def issue(self, name: str, user: str, group: str | None = None, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """A certificate and its key, of a user in a group, for these host names and addresses."""
        leaf = self._ca.issue_cert(name, *hosts, common_name=user, organization_name=group)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        return certificate, key

    def kubeconfig(self, name: str, user: str, group: str | None = None) -> Path:
        """How a program reaches the API server as this user."""
        certificate, key = self.issue(name, user, group)
        said = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "cluster",
                    "cluster": {"server": f"https://{ADDRESS}:{PORT}", "certificate-authority-data": _base64(self.ca)},
                }
            ],
            "users": [
                {
                    "name": "user",
                    "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
                }
            ],
            "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "context",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(said))
        return path


class ControlPlane:
    """A running one; `kubectl` asks it as its administrator."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.authority = Authority(machine.home / "certificates")
        self.admin = self.authority.kubeconfig("admin", "admin", "system:masters")
        machine.start(
            "etcd",
            *("etcd", "--data-dir", machine.home / "etcd", "--unsafe-no-fsync"),  # it ends with this command
            *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD),
            *("--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS),
            *("--initial-cluster", f"default={ETCD_PEERS}"),
        )
        machine.start("kube-apiserver", "kube-apiserver", *self._api_server())
        machine.wait("the API server answers", self.is_ready)
        for name, options in (("kube-controller-manager", self._controllers()), ("kube-scheduler", [])):
            user = self.authority.kubeconfig(name, f"system:{name}")
            asks = [
                f"--{each}={user}" for each in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
            ]
            machine.start(name, name, *asks, "--leader-elect=false", "--bind-address=127.0.0.1", *options)
        machine.wait("namespaces have their service account", lambda: self.has("serviceaccount", "default"))

    def start_dns(self) -> None:
        """Answers for the names of Services at ADDRESS, and makes this namespace ask it."""
        corefile = self.machine.home / "Corefile"
        corefile.write_text(COREFILE.replace("KUBECONFIG", str(self.admin)))
        self.machine.start("coredns", "coredns", "-conf", corefile)
        resolv = self.machine.home / "resolv.conf"
        resolv.write_text(f"nameserver {ADDRESS}\n")
        run("mount", "--bind", resolv, "/etc/resolv.conf")
        self.machine.wait("the DNS answers", lambda: _answers(f"http://{DNS_READY}/ready"))

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Runs kubectl; returns what it printed.

        Raises:
            ClusterError: it failed.
        """
        return run(PROGRAMS / "kubectl", f"--kubeconfig={self.admin}", *arguments, input=stdin)

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def has(self, *arguments: str) -> bool:
        try:
            self.kubectl("get", *arguments)
        except ClusterError:
            return False
        return True

    def apply(self, text: str) -> str:
        """Server-side, with strict validation: a field that Kubernetes does not know is an error."""
        return self.kubectl(
            "apply", "--server-side", "--force-conflicts", "--validate=strict", "--filename=-", stdin=text
        )

    def is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except ClusterError:
            return False

    def _api_server(self) -> list[str]:
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
        own, own_key = self.authority.issue("apiserver", "kube-apiserver", None, [ADDRESS, FIRST_SERVICE, *names])
        asks, asks_key = self.authority.issue("apiserver-to-kubelet", "kube-apiserver", "system:masters")
        return [
            f"--etcd-servers={ETCD}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            f"--secure-port={PORT}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={own}",
            f"--tls-private-key-file={own_key}",
            f"--client-ca-file={self.authority.ca}",
            f"--kubelet-certificate-authority={self.authority.ca}",
            f"--kubelet-client-certificate={asks}",
            f"--kubelet-client-key={asks_key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
            f"--service-account-key-file={self.authority.accounts_public}",
            f"--service-account-signing-key-file={self.authority.accounts_key}",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,PodSecurity,ResourceQuota,LimitRanger",
            "--allow-privileged=true",  # so that PodSecurity is what refuses such a pod
            "--profiling=false",
        ]

    def _controllers(self) -> list[str]:
        return [
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.authority.accounts_key}",
            f"--root-ca-file={self.authority.ca}",
            f"--service-cluster-ip-range={SERVICES}",
            "--allocate-node-cidrs=false",
            "--profiling=false",
        ]


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2):
        return True
    return False


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()
