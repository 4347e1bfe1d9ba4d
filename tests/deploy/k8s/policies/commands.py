"""What containers run is there, with the options that they give; the Secrets that they read are documented.

Each policy yields problems, none when it is kept.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.k8s.manifests import K8S, ROOT, Objects, Pod, environment, runs

README = K8S / "README.md"
SCRIPT = K8S / "base" / "retraining" / "retrain.sh"
OPTION = re.compile(r"--[a-z][a-z-]*")


def file_of(module: str) -> Path | None:
    """Where a module that can be run lies."""
    place = ROOT / module.replace(".", "/")
    return next((path for path in (place / "__main__.py", place.with_suffix(".py")) if path.exists()), None)


def commands_are_there(objects: Objects) -> Iterator[str]:
    for pod, container in objects.containers():
        for module in runs(container):
            options = [each for each in container["args"][1:] if each.startswith("--")]
            yield from (f"{pod}, {container['name']}: {problem}" for problem in strange(module, options))
    for module, rest in commands_of(SCRIPT.read_text()):
        yield from (f"{SCRIPT.name}: {problem}" for problem in strange(module, OPTION.findall(rest)))


def commands_of(script: str) -> list[tuple[str, str]]:
    """Each `python -m module …` of a shell script, with what follows it."""
    lines = "\n".join(line for line in script.replace("\\\n", " ").splitlines() if not line.startswith("#"))
    return re.findall(r"python -m ([\w.]+)([^\n]*)", lines)


def strange(module: str, options: list[str]) -> Iterator[str]:
    path = file_of(module)
    if path is None:
        yield f"there is no {module}"
        return
    folder = path.parent if path.name == "__main__.py" else None
    code = "".join(each.read_text() for each in (folder.glob("*.py") if folder else [path]))
    yield from (f"{module} has no option {option}" for option in options if f'"{option}"' not in code)


def secrets_are_documented(objects: Objects) -> Iterator[str]:
    read = set(secrets(objects))
    told = set(re.findall(r"^\| `(perfusion-[a-z-]+)` \| `([\w.]+)` \|", README.read_text(), re.MULTILINE))
    told = {(name, "" if name == "perfusion-object-store-keys" else key) for name, key in told}
    yield from (f"{README.name} says nothing of {name} {key}" for name, key in sorted(read - told))
    yield from (f"nobody reads {name} {key}" for name, key in sorted(told - read))


def secrets(objects: Objects) -> Iterator[tuple[str, str]]:
    """Name and key; of a Secret that becomes variables as a whole, no key."""
    for pod in objects.pods():
        yield from secrets_of(objects, pod)


def secrets_of(objects: Objects, pod: Pod) -> Iterator[tuple[str, str]]:
    """Those of one workload; without the certificates that cert-manager makes."""
    for container in pod.containers:
        for each in environment(container).values():
            if (ref := each.get("valueFrom", {}).get("secretKeyRef")) is not None:
                yield ref["name"], ref["key"]
        for each in container.get("envFrom", []):
            if "secretRef" in each:
                yield each["secretRef"]["name"], ""
    made = {each["spec"]["secretName"] for each in objects.of("Certificate")}
    for volume in pod.spec.get("volumes", []):
        if "secret" in volume and (name := volume["secret"]["secretName"]) not in made:
            yield from ((name, item["key"]) for item in volume["secret"]["items"])


POLICIES = (commands_are_there, secrets_are_documented)
