"""A real node: containerd, kubelet and kube-proxy, in a network of its own, for real pods.

Knows what these programs want to be told; node.sh starts them.
"""

import json
from pathlib import Path

from deploy.cluster.control_plane import DOMAIN, ControlPlane
from deploy.cluster.machine import ADDRESS, IMAGES, PODS, make_cgroup

PAUSE = "perfusion.local/pause:0.1.0"
PREFIX = "docker.io/library/perfusion-"  # what a name without a registry means to a kubelet

CONTAINERD = """\
version = 2
root = "{home}/containerd/root"
state = "{home}/containerd/state"
[grpc]
  address = "{home}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{home}/cni"
"""


def start(control_plane: ControlPlane, number: int, images: tuple[str, ...]) -> str:
    """Starts the node of this number, with images of build/cluster/images by their names; returns the node's name."""
    machine, authority = control_plane.machine, control_plane.authority
    name = f"node-{number}"
    home = machine.home / name
    (home / "cni").mkdir(parents=True)
    address = machine.add_network(name, number)
    own, own_key = authority.issue(f"{name}-kubelet", name, None, [address])
    files = {
        "address": address,
        "images": "".join(f"{IMAGES / each}.tar {PREFIX}{each}\n" for each in images)
        + f"{IMAGES / 'pause'}.tar {PAUSE.rpartition(':')[0]}\n",
        "containerd.toml": CONTAINERD.format(home=home, pause=PAUSE),
        "cni/10-pods.conflist": json.dumps(_pod_network(number)),
        "node.kubeconfig": authority.kubeconfig(name, f"system:node:{name}", "system:nodes").read_text(),
        "kubelet.yaml": json.dumps(_kubelet(home, name, address, authority.ca, own, own_key)),
        "kube-proxy.yaml": json.dumps(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
                "clusterCIDR": f"{PODS}.0.0/16",
                "clientConnection": {"kubeconfig": str(authority.kubeconfig(f"{name}-proxy", "system:kube-proxy"))},
                "hostnameOverride": name,
                "metricsBindAddress": "127.0.0.1:10249",
                "healthzBindAddress": "127.0.0.1:10256",
                # zeroes: the kernel's settings stay as they are
                "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            }
        ),
        "resolv.conf": f"nameserver {ADDRESS}\n",
    }
    for file, text in files.items():
        (home / file).write_text(text)
    script = Path(__file__).with_name("node.sh")
    machine.start(name, "nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "sh", script, home, name)
    return name


def wait_ready(control_plane: ControlPlane, name: str) -> None:
    control_plane.machine.wait(f"{name} has come", lambda: control_plane.has("node", name), 120.0)
    control_plane.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=60s")


def _kubelet(home: Path, name: str, address: str, ca: Path, own: Path, own_key: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(own),
        "tlsPrivateKeyFile": str(own_key),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": make_cgroup(name),  # two kubelets would clear each other's pods away
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,
        "containerRuntimeEndpoint": f"unix://{home}/containerd.sock",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": str(home / "resolv.conf"),
        "volumePluginDir": str(home / "volume-plugins"),
        "podLogsDir": str(home / "pods"),
    }


def _pod_network(number: int) -> dict[str, object]:
    subnet = f"{PODS}.{number}.0/24"
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
            }
        ],
    }


def allow_proxies(control_plane: ControlPlane) -> None:
    control_plane.kubectl(
        "create", "clusterrolebinding", "proxies", "--clusterrole=system:node-proxier", "--user=system:kube-proxy"
    )
