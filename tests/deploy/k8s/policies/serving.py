"""Ports, probes and stops are those of the code, and nothing that serves goes without a warning.

Each policy yields problems, none when it is kept.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from services.runtime.exposition import HEALTH
from services.runtime.health import LIVENESS, READINESS
from services.runtime.server import CLEAN_UP_S, FLUSH_S
from services.runtime.settings import RuntimeSettings
from services.runtime.upkeep import CLOSE_S
from services.studio.guard import FORM_BYTES
from tests.deploy.k8s.manifests import NAME, Object, Objects, selects, shared, value

SPARE_S = 10.0
WEB_PORT = 80  # of the Service, inside the cluster
NGINX = "nginx.ingress.kubernetes.io/"
TRITON_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}  # its defaults
PROBES = {"startupProbe": LIVENESS, "livenessProbe": LIVENESS, "readinessProbe": READINESS}


def ports_are_the_codes(objects: Objects) -> Iterator[str]:
    for name, _, container, settings in objects.services():
        fields = settings.model_fields
        calls = "grpc" if issubclass(settings, RuntimeSettings) else "http"
        wanted = {calls: fields["port"].default, "metrics": fields["metrics_port"].default}
        yield from wrong_ports(objects, name, container, wanted)
    [triton] = objects.pod("triton").spec["containers"]
    yield from wrong_ports(objects, "triton", triton, TRITON_PORTS)


def wrong_ports(objects: Objects, name: str, container: Object, wanted: dict[str, int]) -> Iterator[str]:
    if (has := {each["name"]: each["containerPort"] for each in container["ports"]}) != wanted:
        yield f"{name} has the ports {has}, its code {wanted}"
    for each in objects.named("Service", name)["spec"]["ports"]:
        port = WEB_PORT if name == "studio" and each["name"] == "http" else wanted[each["name"]]
        if each["targetPort"] != each["name"] or each["port"] != port:
            yield f"the Service {name} leads {each['port']} to {each['targetPort']}"


def browsers_reach_the_studio(objects: Objects) -> Iterator[str]:
    """By the name that the studio has and no other, over TLS, with all that a form and a stream of events need."""
    [container] = objects.pod("studio").spec["containers"]
    host = urlsplit(shared(objects, container)["PERFUSION_PUBLIC_URL"]).netloc
    ingress = objects.named("Ingress", "studio")
    hosts = {rule.get("host") for rule in ingress["spec"]["rules"]}
    if hosts != {host}:
        yield f"browsers are led from {sorted(map(str, hosts))} to a studio that is {host}"
    if [each["hosts"] for each in ingress["spec"].get("tls", [])] != [[host]]:
        yield f"{host} has no TLS"
    [path] = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    if (path["path"], path["backend"]["service"]) != ("/", {"name": "studio", "port": {"name": "http"}}):
        yield f"the Ingress leads {path['path']} to {path['backend']['service']}"
    said = ingress["metadata"]["annotations"]
    if said.get(f"{NGINX}proxy-body-size") != f"{FORM_BYTES // 2**20}m":
        yield f"the Ingress takes forms of {said.get(f'{NGINX}proxy-body-size')}, the studio of {FORM_BYTES} bytes"
    if said.get(f"{NGINX}proxy-buffering") != "off" or int(said.get(f"{NGINX}proxy-read-timeout", 60)) < 600:
        yield "the Ingress holds back events, or ends their stream"


def probes_ask_the_right_names(objects: Objects) -> Iterator[str]:
    for name, _, container, _ in objects.services():
        for probe, health in PROBES.items():
            asked = container.get(probe, {}).get("httpGet", {})
            if asked != {"port": "metrics", "path": f"{HEALTH}{health}"}:
                yield f"{name}: its {probe} asks {asked}"


def triton_is_ready_with_its_models(objects: Objects) -> Iterator[str]:
    """Its own health says "ready" without models, and "not ready" while one more is loaded."""
    pod = objects.pod("triton")
    [triton] = pod.spec["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        if triton.get(probe, {}).get("httpGet", {}).get("path") != "/v2/health/live":
            yield f"triton: its {probe} asks more than whether it lives"
    [follower] = [each for each in pod.containers if each["name"] == "follow-releases"]
    said = follower["args"]
    file = said[said.index("--ready-file") + 1] if "--ready-file" in said else "no file"
    if file not in " ".join(follower.get("readinessProbe", {}).get("exec", {}).get("command", [])):
        yield "triton: it is ready before follow-releases says so"
    port = said[said.index("--triton") + 1] if "--triton" in said else ""
    if port != f"127.0.0.1:{TRITON_PORTS['grpc']}":
        yield f"triton: follow-releases loads into {port!r}"


def releases_are_fetched_first(objects: Objects) -> Iterator[str]:
    """Whoever reads releases starts with some, and has their followers beside it to the end."""
    for name in (
        *(name for name, _, _, settings in objects.services() if "model_repository" in settings.model_fields),
        "triton",
    ):
        before = objects.pod(name).spec.get("initContainers", [])
        if [each["name"] for each in before] != ["fetch-releases", "follow-releases"]:
            yield f"{name}: its releases come by {[each['name'] for each in before]}"
        elif [each.get("restartPolicy") for each in before] != [None, "Always"]:
            yield f"{name}: follow-releases does not run beside it"


def stops_have_time(objects: Objects) -> Iterator[str]:
    assert CLEAN_UP_S + FLUSH_S + CLOSE_S <= SPARE_S
    for name, pod, container, _ in objects.services():
        lame_duck_s, drain_s = (float(value(container, f"PERFUSION_{each}_S") or 0) for each in ("LAME_DUCK", "DRAIN"))
        if not lame_duck_s:
            yield f"{name} refuses calls before balancers know"
        if pod.spec.get("terminationGracePeriodSeconds", 30) <= lame_duck_s + drain_s + SPARE_S:
            yield f"{name} is killed before it has drained"
    pod = objects.pod("triton")
    [triton] = pod.spec["containers"]
    sleep_s = triton.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    exit_s = next((int(each.partition("=")[2]) for each in triton["args"] if "--exit-timeout-secs" in each), 30)
    if not 5 <= sleep_s <= 15:
        yield "triton refuses calls before its callers know"
    if pod.spec["terminationGracePeriodSeconds"] < sleep_s + exit_s + SPARE_S:
        yield "triton is killed before it has drained"


def drains_are_not_blocked(objects: Objects) -> Iterator[str]:
    budgets = objects.of("PodDisruptionBudget")
    for each in budgets:
        if each["spec"].get("maxUnavailable") != 1 or "minAvailable" in each["spec"]:
            yield f"the budget {each['metadata']['name']} may block a drain"
    for each in objects.of("Deployment"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        if sum("selector" in budget["spec"] and selects(budget["spec"]["selector"], labels) for budget in budgets) != 1:
            yield f"{each['metadata']['name']} has not one budget"


def rollouts_end(objects: Objects) -> Iterator[str]:
    """GPUs are scarce: a pod more than there are GPUs waits for ever. A taint keeps away who does not tolerate it."""
    for pod, container in objects.containers():
        if "nvidia.com/gpu" not in container["resources"]["limits"]:
            continue
        tolerated = [each.get("key") for each in pod.spec.get("tolerations", [])]
        if "nvidia.com/gpu" not in tolerated:
            yield f"{pod} does not tolerate the nodes with GPUs"
        surge = pod.owner["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
        if pod.owner["kind"] == "Deployment" and surge != 0:
            yield f"{pod}: a rollout wants more GPUs than there are"


def selectors_select_their_own(objects: Objects) -> Iterator[str]:
    for each in objects.of("Deployment"):
        name, labels = each["metadata"]["name"], each["spec"]["template"]["metadata"]["labels"]
        if labels.get(NAME) != name or not selects(each["spec"]["selector"], labels):
            yield f"{name}: its pods are called {labels.get(NAME)}"
    for each in objects.of("Service"):
        name, selector = each["metadata"]["name"], each["spec"]["selector"]
        of_all = each["spec"].get("publishNotReadyAddresses", False)
        if f"{selector.get(NAME)}{'-all' if of_all else ''}" != name:
            yield f"the Service {name} leads to {selector}"


def replicas_are_spread(objects: Objects) -> Iterator[str]:
    for name in (*(name for name, *_ in objects.services()), "triton"):
        pod = objects.pod(name)
        if not any(
            selects(each["labelSelector"], pod.labels) for each in pod.spec.get("topologySpreadConstraints", [])
        ):
            yield f"{name}: its replicas may all lie on one node"


POLICIES = (
    ports_are_the_codes,
    browsers_reach_the_studio,
    probes_ask_the_right_names,
    triton_is_ready_with_its_models,
    releases_are_fetched_first,
    stops_have_time,
    drains_are_not_blocked,
    rollouts_end,
    selectors_select_their_own,
    replicas_are_spread,
)
