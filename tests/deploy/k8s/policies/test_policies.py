"""Every policy notices: one manifest is made wrong, and exactly this policy, or it among others, says what is wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.k8s import schemas
from tests.deploy.k8s.manifests import SETTINGS, Object, Objects
from tests.deploy.k8s.policies import (
    commands,
    confinement,
    identity,
    kafka,
    monitoring,
    network,
    operators,
    serving,
    settings,
)
from tests.deploy.k8s.test_manifests import POLICIES, Policy

Change = Callable[[Objects], object]


def container(objects: Objects, part: str, index: int = 0) -> Object:
    return objects.pod(part).spec["containers"][index]


def told(objects: Objects, part: str, name: str, value: str | None) -> None:
    """Sets a variable, or takes it away."""
    has = container(objects, part)["env"]
    has[:] = [each for each in has if each["name"] != name]
    if value is not None:
        has.append({"name": name, "value": value})


def spec(objects: Objects, kind: str, name: str) -> Any:
    return objects.named(kind, name)["spec"]


def drop(objects: Objects, kind: str, name: str) -> None:
    objects.remove(objects.named(kind, name))


def peers(objects: Objects, name: str, way: str, *parts: str) -> None:
    """Changes whom a policy names at its caller's end."""
    found = spec(objects, "NetworkPolicy", name)
    selector = found["podSelector"] if way == "egress" else found["ingress"][0]["from"][0]["podSelector"]
    selector["matchExpressions"][0]["values"] = list(parts)


def first_rule(objects: Objects) -> Any:
    return spec(objects, "PrometheusRule", "perfusion")["groups"][0]["rules"][0]


def rule(objects: Objects, expression: str) -> None:
    first_rule(objects)["expr"] = expression


def dashboard(objects: Objects, change: Callable[[Any], object]) -> None:
    data = objects.named("ConfigMap", "dashboard")["data"]
    [(name, text)] = data.items()
    changed = json.loads(text)
    change(changed)
    data[name] = json.dumps(changed)


def panel(objects: Objects, title: str, **target: str) -> None:
    """Changes what a panel asks first."""

    def change(whole: Any) -> None:
        next(each for each in whole["panels"] if each["title"] == title)["targets"][0].update(target)

    dashboard(objects, change)


def named_volume(objects: Objects, part: str) -> Object:
    """Where a part's certificate comes from."""
    return next(each for each in objects.pod(part).spec["volumes"] if each["name"] == "certificates")


def kafka_volume(objects: Objects, part: str) -> Object:
    """The same for Kafka."""
    return next(each for each in objects.pod(part).spec["volumes"] if each["name"] == "kafka-certificates")


def rights(objects: Objects, user: str) -> list[Object]:
    """What a user of Kafka may do."""
    found: list[Object] = spec(objects, "KafkaUser", user)["authorization"]["acls"]
    return found


def unmounted(objects: Objects, part: str, volume: str = "certificates") -> None:
    mounts = container(objects, part)["volumeMounts"]
    mounts.remove(next(each for each in mounts if each["name"] == volume))


def annotated(objects: Objects, name: str, value: str) -> None:
    objects.named("Ingress", "studio")["metadata"]["annotations"][f"{serving.NGINX}{name}"] = value


def backend(objects: Objects) -> Any:
    return spec(objects, "Ingress", "studio")["rules"][0]["http"]["paths"][0]["backend"]["service"]


def account(objects: Objects, part: str) -> Object:
    return objects.named("ServiceAccount", part)


def configured(objects: Objects, name: str) -> Any:
    """What a ConfigMap says; a hash ends its name."""
    return next(each for each in objects.of("ConfigMap") if each["metadata"]["name"].startswith(f"{name}-"))["data"]


CASES: list[tuple[Policy, str, Change]] = [
    (settings.variables_exist, "nobody reads", lambda o: told(o, "ranking", "PERFUSION_TRITON_ADRESS", "triton:8001")),
    (
        settings.variables_exist,
        "nobody reads",
        lambda o: told(o, "feedback", "PERFUSION_TRITON_ADDRESS", "triton:8001"),
    ),
    (
        settings.shared_variables_are_read,
        "nobody reads",
        lambda o: configured(o, "tensorrt").update(PERFUSION_TENSOR_RT="off"),
    ),
    (settings.tensorrt_is_one_setting, "differs", lambda o: container(o, "releases").update(envFrom=[])),
    (settings.tensorrt_is_one_setting, "neither", lambda o: configured(o, "tensorrt").update(PERFUSION_TENSORRT="on")),
    (settings.all_are_told, "is not told", lambda o: told(o, "generation", "PERFUSION_RANKING_ADDRESS", None)),
    (settings.all_are_told, "is not told", lambda o: told(o, "ranking", "PERFUSION_LAME_DUCK_S", None)),
    (settings.all_are_told, "studio is not told PERFUSION_TOKEN", lambda o: told(o, "studio", "PERFUSION_TOKEN", None)),
    (
        settings.values_are_legal,
        "public_url",
        lambda o: configured(o, "studio").update(PERFUSION_PUBLIC_URL="studio"),
    ),
    (settings.values_are_legal, "drain_s", lambda o: told(o, "ranking", "PERFUSION_DRAIN_S", "30s")),
    (
        settings.databases_are_migrated_by_jobs,
        "migrates its database itself",
        lambda o: told(o, "feedback", "PERFUSION_DATABASE_MIGRATE", "true"),
    ),
    (settings.databases_are_migrated_by_jobs, "the migrations are of", lambda o: o.remove(o.of("Job")[0])),
    (
        settings.addresses_name_headless_services,
        "where it needs",
        lambda o: told(o, "generation", "PERFUSION_RANKING_ADDRESS", "feedback:50053"),
    ),
    (
        settings.addresses_name_headless_services,
        "has none such",
        lambda o: told(o, "generation", "PERFUSION_RANKING_ADDRESS", "ranking:50051"),
    ),
    (
        settings.addresses_name_headless_services,
        "one address for all",
        lambda o: spec(o, "Service", "triton").pop("clusterIP"),
    ),
    (
        identity.parts_show_their_own_certificate,
        "shows the certificate of",
        lambda o: named_volume(o, "ranking")["secret"].update(secretName="generation-certificate"),
    ),
    (identity.parts_show_their_own_certificate, "has no certificate", lambda o: unmounted(o, "feedback")),
    (
        identity.parts_show_their_own_certificate,
        "is not told of its certificate",
        lambda o: told(o, "releases", "PERFUSION_CERTIFICATES", None),
    ),
    (
        identity.parts_show_their_own_certificate,
        "triton does without",
        lambda o: container(o, "triton")["args"].remove("--grpc-use-ssl-mutual=true"),
    ),
    (
        identity.parts_show_their_own_certificate,
        "in clear text",
        lambda o: o.pod("triton").spec["initContainers"][1]["args"].pop(),
    ),
    (
        identity.certificates_have_the_names_that_callers_use,
        "is certified as",
        lambda o: spec(o, "Certificate", "user-embedding").update(uris=["spiffe://perfusion/service/user-embedding"]),
    ),
    (
        identity.certificates_have_the_names_that_callers_use,
        "certified for",
        lambda o: spec(o, "Certificate", "triton")["dnsNames"].remove("triton"),
    ),
    (
        identity.certificates_have_the_names_that_callers_use,
        "serve and call",
        lambda o: spec(o, "Certificate", "ranking")["usages"].remove("client auth"),
    ),
    (
        identity.the_studio_is_a_client,
        "is certified as",
        lambda o: spec(o, "Certificate", "studio")["issuerRef"].update(name="perfusion"),
    ),
    (
        identity.the_studio_is_a_client,
        "more than to call",
        lambda o: spec(o, "Certificate", "studio")["usages"].append("server auth"),
    ),
    (
        identity.the_studio_is_a_client,
        "the studio shows",
        lambda o: named_volume(o, "studio")["projected"]["sources"][1]["secret"].update(name="studio-certificate"),
    ),
    (
        identity.the_studio_is_a_client,
        "not told of its certificate",
        lambda o: told(o, "studio", "PERFUSION_CERTIFICATES", None),
    ),
    (
        identity.the_studio_is_a_client,
        "no file for PERFUSION_TOKEN",
        lambda o: told(o, "studio", "PERFUSION_TOKEN", "/token"),
    ),
    (
        identity.nothing_is_in_clear_text,
        "for one machine",
        lambda o: told(o, "ranking", "PERFUSION_CLEAR_TEXT", "true"),
    ),
    (
        kafka.brokers_know_who_calls,
        "shows no certificate",
        lambda o: spec(o, "Kafka", "perfusion")["kafka"]["listeners"][0].pop("authentication"),
    ),
    (
        kafka.brokers_know_who_calls,
        "may do everything",
        lambda o: spec(o, "Kafka", "perfusion")["kafka"].pop("authorization"),
    ),
    (
        kafka.brokers_know_who_calls,
        "nobody makes",
        lambda o: spec(o, "Kafka", "perfusion")["entityOperator"].pop("userOperator"),
    ),
    (kafka.users_have_the_contracts_rights, "the users are", lambda o: drop(o, "KafkaUser", "releases")),
    (
        kafka.users_have_the_contracts_rights,
        "not known by a certificate",
        lambda o: spec(o, "KafkaUser", "feedback").update(authentication={"type": "scram-sha-512"}),
    ),
    (
        kafka.users_have_the_contracts_rights,
        "feedback may Read perfusion.feedback.v1, and never does",
        lambda o: rights(o, "feedback")[0]["operations"].append("Read"),
    ),
    (
        kafka.users_have_the_contracts_rights,
        "feedback may Write ('allow', 'topic', 'prefix') perfusion.feedback.v1, and never does",
        lambda o: rights(o, "feedback")[0]["resource"].update(patternType="prefix"),
    ),
    (
        kafka.users_have_the_contracts_rights,
        "collect may not Read perfusion.groups.v1, and has to",
        lambda o: rights(o, "collect").pop(0),
    ),
    (
        kafka.parts_show_kafka_their_own_certificate,
        "feedback shows Kafka",
        lambda o: kafka_volume(o, "feedback")["projected"]["sources"][0]["secret"].update(name="kafka-generation"),
    ),
    (
        kafka.parts_show_kafka_their_own_certificate,
        "has no certificate in /kafka-certificates",
        lambda o: unmounted(o, "collect", "kafka-certificates"),
    ),
    (
        kafka.parts_show_kafka_their_own_certificate,
        "releases is not told",
        lambda o: told(o, "releases", "PERFUSION_KAFKA_CERTIFICATES", None),
    ),
    (
        kafka.parts_show_kafka_their_own_certificate,
        "ranking has a certificate for Kafka",
        lambda o: o.pod("ranking").spec["volumes"].append(kafka_volume(o, "feedback")),
    ),
    (serving.ports_are_the_codes, "has the ports", lambda o: container(o, "feedback")["ports"].pop()),
    (serving.ports_are_the_codes, "leads", lambda o: spec(o, "Service", "triton")["ports"][0].update(port=8000)),
    (serving.ports_are_the_codes, "leads", lambda o: spec(o, "Service", "studio")["ports"][0].update(port=8080)),
    (
        serving.browsers_reach_the_studio,
        "led from ['shop.example.com']",
        lambda o: spec(o, "Ingress", "studio")["rules"][0].update(host="shop.example.com"),
    ),
    (serving.browsers_reach_the_studio, "has no TLS", lambda o: spec(o, "Ingress", "studio").pop("tls")),
    (
        serving.browsers_reach_the_studio,
        "leads / to",
        lambda o: backend(o)["port"].update(name="metrics"),
    ),
    (serving.browsers_reach_the_studio, "takes forms of 1m", lambda o: annotated(o, "proxy-body-size", "1m")),
    (serving.browsers_reach_the_studio, "holds back", lambda o: annotated(o, "proxy-buffering", "on")),
    (serving.browsers_reach_the_studio, "holds back", lambda o: annotated(o, "proxy-read-timeout", "60")),
    (
        serving.probes_ask_the_right_names,
        "readinessProbe asks",
        lambda o: container(o, "ranking")["readinessProbe"]["httpGet"].update(path="/health/liveness"),
    ),
    (
        serving.triton_is_ready_with_its_models,
        "asks more",
        lambda o: container(o, "triton")["livenessProbe"]["httpGet"].update(path="/v2/health/ready"),
    ),
    (
        serving.triton_is_ready_with_its_models,
        "ready before",
        lambda o: o.pod("triton").spec["initContainers"][1].pop("readinessProbe"),
    ),
    (
        serving.releases_are_fetched_first,
        "come by",
        lambda o: o.pod("triton").spec["initContainers"].reverse(),
    ),
    (
        serving.releases_are_fetched_first,
        "beside it",
        lambda o: o.pod("ranking").spec["initContainers"][1].pop("restartPolicy"),
    ),
    (
        serving.stops_have_time,
        "killed before",
        lambda o: o.pod("generation").spec.update(terminationGracePeriodSeconds=80),
    ),
    (serving.stops_have_time, "before balancers", lambda o: told(o, "ranking", "PERFUSION_LAME_DUCK_S", "0")),
    (
        serving.stops_have_time,
        "triton is killed",
        lambda o: o.pod("triton").spec.update(terminationGracePeriodSeconds=45),
    ),
    (serving.stops_have_time, "triton refuses", lambda o: container(o, "triton").pop("lifecycle")),
    (
        serving.drains_are_not_blocked,
        "may block",
        lambda o: spec(o, "PodDisruptionBudget", "ranking").update(minAvailable=1),
    ),
    (
        serving.drains_are_not_blocked,
        "has not one budget",
        lambda o: spec(o, "PodDisruptionBudget", "ranking").pop("selector"),
    ),
    (
        serving.rollouts_end,
        "wants more GPUs",
        lambda o: spec(o, "Deployment", "triton")["strategy"]["rollingUpdate"].update(maxSurge=1),
    ),
    (serving.rollouts_end, "does not tolerate", lambda o: o.pod("retraining").spec.pop("tolerations")),
    (serving.selectors_select_their_own, "leads to", lambda o: spec(o, "Service", "ranking").update(selector={})),
    (
        serving.replicas_are_spread,
        "on one node",
        lambda o: o.pod("triton").spec.pop("topologySpreadConstraints"),
    ),
    (
        confinement.containers_are_confined,
        "migrate",
        lambda o: o.of("Job")[0]["spec"]["template"]["spec"]["containers"][0].pop("securityContext"),
    ),
    (
        confinement.containers_are_confined,
        "follow-releases",
        lambda o: o.pod("ranking").spec["initContainers"][1]["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (confinement.pods_are_confined, "as root", lambda o: o.pod("collect").spec["securityContext"].update(runAsUser=0)),
    (
        confinement.pods_are_confined,
        "gets a token",
        lambda o: o.pod("collect").spec.pop("automountServiceAccountToken"),
    ),
    (confinement.pods_are_confined, "no account", lambda o: account(o, "ranking").pop("automountServiceAccountToken")),
    (confinement.pods_are_confined, "every Service", lambda o: o.pod("ranking").spec.pop("enableServiceLinks")),
    (
        confinement.the_namespace_refuses_others,
        "not restricted",
        lambda o: o.of("Namespace")[0]["metadata"].update(labels={}),
    ),
    (
        confinement.the_namespace_refuses_others,
        "another namespace",
        lambda o: o.named("Service", "ranking")["metadata"].pop("namespace"),
    ),
    (
        confinement.resources_are_bounded,
        "has no limits of memory",
        lambda o: container(o, "collect")["resources"]["limits"].pop("memory"),
    ),
    (
        confinement.resources_are_bounded,
        "may fill the node",
        lambda o: o.pod("ranking").spec["volumes"][0]["emptyDir"].pop("sizeLimit"),
    ),
    (confinement.images_are_pinned, "no Dockerfile", lambda o: container(o, "ranking").update(image="perfusion:0.1.0")),
    (
        confinement.images_are_pinned,
        "is not the version",
        lambda o: container(o, "ranking").update(image="perfusion-services:latest"),
    ),
    (
        confinement.images_are_pinned,
        "in the way of",
        lambda o: o.of("Job")[0]["metadata"].update(name="migrate-generation"),
    ),
    (confinement.mounts_are_there, "has no /models", lambda o: container(o, "ranking").pop("volumeMounts")),
    (confinement.mounts_are_there, "not there", lambda o: o.pod("ranking").spec["volumes"].pop(0)),
    (
        network.only_what_calls_may,
        "generation may not call ranking:50053",
        lambda o: drop(o, "NetworkPolicy", "ranking"),
    ),
    (
        network.only_what_calls_may,
        "feedback may not call generation:50052",
        lambda o: drop(o, "NetworkPolicy", "to-generation"),
    ),
    (
        network.only_what_calls_may,
        "ranking may call kafka:9093",
        lambda o: (
            peers(o, "to-kafka", "egress", "generation", "feedback", "releases", "collect", "ranking"),
            spec(o, "Kafka", "perfusion")["kafka"]["listeners"][0].update(networkPolicyPeers=[{"podSelector": {}}]),
        ),
    ),
    (
        network.only_what_calls_may,
        "feedback may call the web",
        lambda o: peers(o, "to-object-store", "egress", "feedback"),
    ),
    (
        network.only_what_calls_may,
        "studio may not call the web:443",
        lambda o: drop(o, "NetworkPolicy", "to-issuer"),
    ),
    (
        network.only_what_calls_may,
        "browsers may not call studio:8080",
        lambda o: drop(o, "NetworkPolicy", "studio"),
    ),
    (
        network.only_what_calls_may,
        "monitoring may not call feedback:51054",
        lambda o: drop(o, "NetworkPolicy", "metrics"),
    ),
    (network.the_rest_is_denied, "is not denied", lambda o: drop(o, "NetworkPolicy", "default-deny")),
    (monitoring.metrics_exist, "nobody shows", lambda o: rule(o, "perfusion_method_up == 0")),
    (monitoring.metrics_exist, "has no label", lambda o: rule(o, 'perfusion_method_ready{pods="x"} == 0')),
    (monitoring.metrics_exist, "has no label", lambda o: rule(o, "sum by (arm) (perfusion_method_ready) == 0")),
    (
        monitoring.metrics_exist,
        "perfusion_method_ready has no label arm",  # though another metric in there has it
        lambda o: rule(o, "sum by (arm) (perfusion_groups_total) / sum by (arm) (perfusion_method_ready)"),
    ),
    (
        monitoring.metrics_exist,
        "nothing has the label arm",
        lambda o: rule(o, "perfusion_method_ready unless on (arm) perfusion_dependency_up"),
    ),
    (monitoring.metrics_exist, "no metric", lambda o: rule(o, "vector(1)")),
    (
        monitoring.metrics_exist,
        "panel Rate: nobody shows perfusion_calls_total",
        lambda o: panel(o, "Rate", expr='rate(perfusion_calls_total{namespace="perfusion"}[5m])'),
    ),
    (
        monitoring.metrics_exist,
        "has no label le",
        lambda o: panel(o, "Rate", expr="sum by (le) (perfusion_rpc_latency_seconds_count)"),
    ),
    (
        monitoring.what_is_named_is_there,
        "there is no method",
        lambda o: rule(o, 'perfusion_method_ready{method="/perfusion.v1.GenerationService/Draw"} == 0'),
    ),
    (
        monitoring.what_is_named_is_there,
        "there is no code EXHAUSTED",
        lambda o: rule(o, 'perfusion_rpc_handled_total{code=~"INTERNAL|EXHAUSTED"} == 0'),
    ),
    (
        monitoring.what_is_named_is_there,
        "there is no deployment tritons",
        lambda o: rule(o, 'kube_deployment_spec_replicas{namespace="perfusion", deployment!="tritons"} == 0'),
    ),
    (
        monitoring.what_is_named_is_there,
        "there is no job retrain-.*",
        lambda o: rule(o, 'kube_job_failed{namespace="perfusion", job_name=~"retrain-.*"} == 1'),
    ),
    (monitoring.what_is_named_is_there, "of every namespace", lambda o: rule(o, "perfusion_method_ready == 0")),
    (monitoring.what_is_named_is_there, "there is no namespace", lambda o: rule(o, 'up{namespace="prod"} == 0')),
    (monitoring.alerts_are_explained, "has no severity", lambda o: first_rule(o)["labels"].clear()),
    (monitoring.alerts_are_explained, "says nothing", lambda o: first_rule(o)["annotations"].pop("summary")),
    (monitoring.alerts_are_explained, "names another", lambda o: first_rule(o)["annotations"].pop("runbook")),
    (monitoring.alerts_are_explained, "has no section", lambda o: first_rule(o).update(alert="MetricsGone")),
    (monitoring.panels_are_whole, "its legend names code", lambda o: panel(o, "Rate", legendFormat="{{code}}")),
    (monitoring.panels_are_whole, "two panels", lambda o: dashboard(o, lambda d: d["panels"][0].update(id=2))),
    (
        monitoring.panels_are_whole,
        "no place of its own",
        lambda o: dashboard(o, lambda d: d["panels"][1]["gridPos"].update(w=13)),
    ),
    (
        monitoring.panels_are_whole,
        "one Grafana's",
        lambda o: dashboard(o, lambda d: d["panels"][1]["datasource"].update(uid="P1")),
    ),
    (
        operators.topics_are_the_contracts,
        "retention.ms is 1000",
        lambda o: spec(o, "KafkaTopic", "perfusion.groups.v1")["config"].update({"retention.ms": 1000}),
    ),
    (operators.topics_are_the_contracts, "the topics are", lambda o: drop(o, "KafkaTopic", "perfusion.groups.v1")),
    (
        operators.topics_are_the_contracts,
        "belongs to no cluster",
        lambda o: o.of("KafkaTopic")[0]["metadata"].update(labels={}),
    ),
    (
        operators.acknowledged_is_durable,
        "may be lost",
        lambda o: spec(o, "KafkaTopic", "perfusion.groups.v1")["config"].update({"min.insync.replicas": 1}),
    ),
    (
        operators.acknowledged_is_durable,
        "1 brokers",
        lambda o: spec(o, "KafkaNodePool", "brokers").update(replicas=1),
    ),
    (
        operators.scaling_is_bounded,
        "means no load",
        lambda o: spec(o, "ScaledObject", "generation")["triggers"][0]["metadata"].update(ignoreNullValues="true"),
    ),
    (
        operators.scaling_is_bounded,
        "take pods away",
        lambda o: spec(o, "ScaledObject", "generation").pop("fallback"),
    ),
    (operators.scaling_is_bounded, "undoes", lambda o: spec(o, "Deployment", "generation").update(replicas=2)),
    (commands.commands_are_there, "there is no", lambda o: container(o, "ranking").update(args=["services.rank"])),
    (
        serving.selectors_select_their_own,
        "leads to",
        lambda o: spec(o, "Service", "triton").update(publishNotReadyAddresses=True),
    ),
    (commands.commands_are_there, "has no option", lambda o: container(o, "collect")["args"].append("--forever")),
    (
        commands.secrets_are_documented,
        "says nothing of",
        lambda o: container(o, "ranking")["env"].append(
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "perfusion-ranking", "key": "x"}}}
        ),
    ),
    (commands.secrets_are_documented, "nobody reads", lambda o: container(o, "retraining").update(env=[])),
]


@pytest.mark.parametrize(("policy", "says", "change"), CASES, ids=[f"{p.__name__}: {s}" for p, s, _ in CASES])
def test_a_policy_notices(policy: Policy, says: str, change: Change, whole: Objects) -> None:
    assert list(policy(whole)) == []
    change(whole)
    assert any(says in problem for problem in policy(whole)), list(policy(whole))


def test_a_new_address_in_the_code_needs_a_flow(whole: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(SETTINGS["ranking"]):  # type: ignore[misc]
        generation_address: str = ""

    monkeypatch.setitem(network.SETTINGS, "ranking", Settings)  # type: ignore[arg-type]
    assert "ranking may not call generation:50052, and has to" in list(network.only_what_calls_may(whole))


def test_every_policy_is_tried() -> None:
    tried = {policy for policy, *_ in CASES}
    assert {*POLICIES, *operators.PRODUCTION} == tried


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("Deployment", "ranking", lambda spec: spec.update(replica=2)),
        ("PodDisruptionBudget", "ranking", lambda spec: spec.update(maxUnavailable=[1])),
        ("ScaledObject", "generation", lambda spec: spec["fallback"].update(behaviour="static")),
        ("PrometheusRule", "perfusion", lambda spec: spec["groups"][0]["rules"][0].update(after="5m")),
        ("KafkaTopic", "perfusion.groups.v1", lambda spec: spec.update(partitions="many")),
        ("KafkaUser", "feedback", lambda spec: spec["authorization"]["acls"][0].update(operations=["Produce"])),
        ("KafkaNodePool", "brokers", lambda spec: spec.update(roles=["leader"])),
        ("Kafka", "perfusion", lambda spec: spec["kafka"].update(replicas=3)),
    ],
)
def test_a_schema_refuses_what_is_wrong(
    kind: str, name: str, change: Callable[[Object], object], whole: Objects
) -> None:
    if not schemas.is_here(kind):
        pytest.skip("no Java 21 here wrote Strimzi's schemas (deploy/k8s/tools.sh)")
    thing = whole.named(kind, name)
    assert schemas.problem(thing) is None
    change(thing["spec"])
    assert schemas.problem(thing)
