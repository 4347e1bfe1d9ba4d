"""docs/runbook.md: every alert has its section; every command, object, container and table that it names is there."""

import re
import shlex
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text

from services.feedback.adapters import tables as feedback
from services.generation.adapters import tables as generation
from services.items.adapters import tables as items
from tests.deploy.k8s.manifests import K8S, ROOT, Object, Objects, Pod
from tests.deploy.k8s.policies.commands import OPTION, README, file_of, secrets_of, strange
from tests.deploy.k8s.policies.monitoring import RUNBOOK, alerts
from tests.deploy.k8s.test_images import COPY, IMAGES

PAGE = RUNBOOK.read_text()
KINDS = {
    "deploy": "Deployment",
    "deployment": "Deployment",
    "job": "Job",
    "cronjob": "CronJob",
    "scaledobject": "ScaledObject",
    "servicemonitor": "ServiceMonitor",
    "networkpolicy": "NetworkPolicy",
    "kafka": "Kafka",
    "kafkanodepool": "KafkaNodePool",
}
NAMED = re.compile(rf"(?<![\w/.])({'|'.join(KINDS)})/([a-z0-9-]+|[A-Z]+)(?![\w/])")
MODULE = re.compile(r"python -m ([\w.]+)([^|;'`\n]*)")


def commands(page: str) -> list[str]:
    """Lines of the shell, in blocks and in sentences."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    inline = re.findall(
        r"`((?:kubectl|python|make) [^`]*)`", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    )
    return [line for line in [*blocks.splitlines(), *inline] if line.strip()]


def problems(page: str, objects: Objects) -> Iterator[str]:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands(page):
        for target in re.findall(r"\bmake ([a-z0-9-]+)", line):
            if target not in targets:
                yield f"there is no make {target}"
        for module, rest in MODULE.findall(line):
            yield from unknown(module, rest)
        if line.startswith("kubectl"):
            yield from unnamed(line, objects)


def unknown(module: str, rest: str) -> Iterator[str]:
    """Of a command in Python: its module, its first word, its options."""
    yield from strange(module, OPTION.findall(rest))
    path = file_of(module)
    word = (rest.split() or [""])[0]
    if path is not None and re.fullmatch("[a-z-]+", word) and not word.startswith("-"):
        code = "".join(each.read_text() for each in path.parent.glob("*.py") if each == path or path.stem == "__main__")
        if f'"{word}"' not in code:
            yield f"{module} has no command {word}"


def unnamed(line: str, objects: Objects) -> Iterator[str]:
    """Of a kubectl: namespace, objects, containers, what runs in them, folders."""
    words = shlex.split(line.partition(" -- ")[0])
    options = {flag: words[n + 1] for n, flag in enumerate(words[:-1]) if flag in ("-n", "-c", "-l", "-k")}
    namespaces = {each["metadata"]["name"] for each in objects.of("Namespace")} | {"monitoring"}
    if options.get("-n", "perfusion") not in namespaces:
        yield f"there is no namespace {options['-n']}"
    folder = options.get("-k", "")
    if folder and not folder.endswith("/yours") and not (ROOT / folder).is_dir():
        yield f"there is no {folder}"
    pods: list[Pod] = []
    for kind, name in NAMED.findall(line.split(" -- ")[0]):
        found = [each for each in objects.of(KINDS[kind]) if each["metadata"]["name"] == name]
        if not found and not name.isupper():
            yield f"there is no {kind} {name}"
        pods += [pod for pod in objects.pods() if pod.owner in found]
    if "-l" in options and "strimzi.io/cluster" not in options["-l"]:
        selected = [pod for pod in objects.pods() if chosen(options["-l"], pod.labels)]
        if not selected:
            yield f"nothing has the labels {options['-l']}"
        pods += selected
    yield from lacking(options.get("-c"), line, pods)


def chosen(selector: str, labels: dict[str, str]) -> bool:
    several = re.fullmatch(r"(\S+) in \(([^)]*)\)", selector)
    key, values = (several[1], several[2].split(",")) if several else (selector.split("=")[0], [selector.split("=")[1]])
    return labels.get(key) in values


def lacking(container: str | None, line: str, pods: list[Pod]) -> Iterator[str]:
    modules = MODULE.findall(line.partition(" -- ")[2])
    for pod in pods:
        there = [each for each in pod.containers if container in (None, each["name"])]
        if not there:
            yield f"{pod} has no container {container}"
        image: Object = pod.spec["containers"][0] if container is None else (there or [{"image": ""}])[0]
        for module, _ in modules:
            if not any(module.replace(".", "/").startswith(source) for source in copied(image["image"])):
                yield f"{module} is not in {image['image']}"


def copied(image: str) -> list[str]:
    """What the Dockerfile of an image of ours copies."""
    folder = IMAGES / image.split(":")[0].removeprefix("perfusion-") / "Dockerfile"
    return [source for source, _ in COPY.findall(folder.read_text())] if folder.exists() else []


def test_every_command_and_object_is_there(whole: Objects) -> None:
    assert len(commands(PAGE)) > 50
    assert list(problems(PAGE, whole)) == []


NOWHERE = {  # command → what is wrong with it
    "make exports": "no make exports",
    "python -m deploy.release status": "there is no deploy.release",
    "python -m deploy.releases undo R": "has no command undo",
    "python -m deploy.releases rollback --why x": "has no option --why",
    "kubectl -n perfusion logs deploy/generator": "no deploy generator",
    "kubectl -n perfussion get pods": "no namespace perfussion",
    "kubectl -n perfusion logs deploy/generation -c services": "has no container services",
    "kubectl -n perfusion logs -l app.kubernetes.io/name=tritons": "nothing has the labels",
    "kubectl -n perfusion logs -l app.kubernetes.io/part-of=perfusion -c service": "triton has no container service",
    "kubectl -n perfusion exec deploy/releases -- python -m training.retraining.collect": "not in perfusion-services",
    "kubectl -n perfusion exec deploy/collect -- sh -c 'python -m deploy.releases status --lag'": "has no option --lag",
    "kubectl apply -k deploy/k8s/overlays/prod": "there is no deploy/k8s/overlays/prod",
}


@pytest.mark.parametrize(("line", "says"), NOWHERE.items())
def test_what_is_not_there_is_noticed(line: str, says: str, whole: Objects) -> None:
    for page in (f"```sh\n{line}\n```\n", f"Say `{line}` then.\n"):
        assert any(says in problem for problem in problems(page, whole)), list(problems(page, whole))


def sections() -> dict[str, str]:
    """Of each alert: what stands below its name."""
    _, *parts = re.split(r"^### (\w+)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_section_is_an_alerts_and_says_what_to_do(whole: Objects) -> None:
    assert set(sections()) == {rule["alert"] for rule in alerts(whole)}
    for name, said in sections().items():
        missing = [part for part in ("*Means:*", "*Causes:*", "*Remedy:*", "```") if part not in said]
        assert not missing, f"{name}: {missing}"


def test_alerts_in_sentences_are_there(whole: Objects) -> None:
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", PAGE))
    assert named - {rule["alert"] for rule in alerts(whole)} <= {"OOMKilled"}


def test_the_queries_run() -> None:
    engine = create_engine("sqlite://")
    for tables in (feedback, generation, items):
        tables.METADATA.create_all(engine)
    queries = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert queries
    with engine.connect() as connection:
        for query in "".join(queries).splitlines():
            connection.execute(text(query))


def test_who_reads_a_secret_is_told(whole: Objects) -> None:
    reads: dict[str, set[str]] = {}
    for pod in whole.pods():
        name = pod.owner["metadata"]["name"]
        for secret, _ in secrets_of(whole, pod):
            reads.setdefault(secret, set()).add("migrations" if name.startswith("migrate-") else name)
    rows = dict(re.findall(r"^\| `(perfusion-[a-z-]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert {name: set(re.split("[,;] ", row.replace("the Jobs of ", ""))) for name, row in rows.items()} == reads
    assert set(re.findall(r"^\| `(perfusion-[a-z-]+)` \|", README.read_text(), re.MULTILINE)) == set(rows)
    assert set(re.findall(r"secret generic ([a-z-]+)", PAGE)) <= set(rows)


def test_settings_and_places_are_there() -> None:
    for setting in re.findall(r"PERFUSION_[A-Z_]+", PAGE):
        assert f"`{setting}`" in (ROOT / "docs" / "serving.md").read_text(), setting
    for place in re.findall(r"\bbase/[a-z-]+", PAGE):
        assert (K8S / place).is_dir(), place
    for page, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", PAGE):
        text_there = (RUNBOOK.parent / page).read_text() if page else PAGE
        headings = re.findall(r"^#+ (.*)$", text_there, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}, anchor
