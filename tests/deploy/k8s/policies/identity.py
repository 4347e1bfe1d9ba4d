"""Every part proves who it is by a certificate of its own, whose name is the one that the code knows it by.

Each policy yields problems, none when it is kept.
"""

from collections.abc import Iterator

from deploy.releases.arguments import CERTIFICATES_VARIABLE
from services.runtime.access import TABLE
from services.runtime.callers import CLIENT, SERVICE
from services.runtime.certificates import AUTHORITY, CERTIFICATE, KEY
from services.runtime.settings import PREFIX, RuntimeSettings
from tests.deploy.k8s.manifests import CALLED, Objects, environment, value

PARTS = (*CALLED, "triton", "releases")  # all that serve or call by gRPC
FOLDER = "/certificates"
DOMAIN = RuntimeSettings.model_fields["trust_domain"].default
USAGES = ["digital signature", "server auth", "client auth"]  # a part serves and calls
TRITON = (  # what its server needs to know its callers
    "--grpc-use-ssl=true",
    "--grpc-use-ssl-mutual=true",
    f"--grpc-server-cert={FOLDER}/{CERTIFICATE}",
    f"--grpc-server-key={FOLDER}/{KEY}",
    f"--grpc-root-cert={FOLDER}/{AUTHORITY}",
)


def parts_show_their_own_certificate(objects: Objects) -> Iterator[str]:
    for part in PARTS:
        pod = objects.pod(part)
        shown = [each["secret"]["secretName"] for each in pod.spec["volumes"] if each["name"] == "certificates"]
        if shown != [f"{part}-certificate"]:
            yield f"{part} shows the certificate of {shown}"
        [container] = pod.spec["containers"]
        if {"name": "certificates", "mountPath": FOLDER, "readOnly": True} not in container["volumeMounts"]:
            yield f"{part} has no certificate in {FOLDER}"
        if part != "triton" and value(container, CERTIFICATES_VARIABLE) != FOLDER:
            yield f"{part} is not told of its certificate"
    [triton] = objects.pod("triton").spec["containers"]
    if missing := [each for each in TRITON if each not in triton["args"]]:
        yield f"triton does without {missing[0]}"
    [follower] = [each for each in objects.pod("triton").containers if each["name"] == "follow-releases"]
    if follower["args"][-2:] != ["--certificates", FOLDER]:
        yield "triton: follow-releases loads in clear text"


def certificates_have_the_names_that_callers_use(objects: Objects) -> Iterator[str]:
    for part in PARTS:
        spec = objects.named("Certificate", part)["spec"]
        own = f"spiffe://{DOMAIN}/{SERVICE}{part.replace('-', '_')}"
        if spec["uris"] != [own] or spec["secretName"] != f"{part}-certificate":
            yield f"{part} is certified as {spec['uris']} in {spec['secretName']}"
        hosts = {part, f"{part}.perfusion.svc", f"{part}.perfusion.svc.cluster.local"}
        if set(spec["dnsNames"]) != hosts:
            yield f"{part} is called by {sorted(hosts)}, certified for {spec['dnsNames']}"
        if spec["usages"] != USAGES:
            yield f"{part} may not both serve and call"
    known = {each["metadata"]["name"].replace("-", "_") for each in objects.of("Certificate")}
    for method, rule in TABLE.items():
        if unknown := rule.services - known:
            yield f"{method} is for {sorted(unknown)}, which have no certificate"


def the_studio_is_a_client(objects: Objects) -> Iterator[str]:
    """Known by its clients' certificate, it knows whom it calls by the parts' authority, whose key it has not."""
    spec = objects.named("Certificate", "studio")["spec"]
    if spec["issuerRef"]["name"] != "perfusion-clients" or spec["uris"] != [f"spiffe://{DOMAIN}/{CLIENT}studio"]:
        yield f"the studio is certified as {spec['uris']} by {spec['issuerRef']['name']}"
    if spec["usages"] != ["digital signature", "client auth"]:
        yield "the studio's certificate is good for more than to call"
    pod = objects.pod("studio")
    own = [{"key": each, "path": each} for each in (CERTIFICATE, KEY)]
    wanted = [
        {"secret": {"name": spec["secretName"], "items": own}},
        {"secret": {"name": "perfusion-authority", "items": [{"key": CERTIFICATE, "path": AUTHORITY}]}},
    ]
    volumes = {each["name"]: each for each in pod.spec["volumes"]}
    if volumes["certificates"].get("projected", {}).get("sources") != wanted:
        yield f"the studio shows {volumes['certificates']}"
    [container] = pod.spec["containers"]
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    if value(container, CERTIFICATES_VARIABLE) != FOLDER or mounts.get(FOLDER) != "certificates":
        yield "the studio is not told of its certificate"
    items = [item["path"] for item in volumes["secrets"]["secret"]["items"]]
    for variable in ("TOKEN", "OIDC_CLIENT_SECRET"):
        folder, _, file = (value(container, f"{PREFIX}{variable}") or "").rpartition("/")
        if mounts.get(folder) != "secrets" or file not in items:
            yield f"the studio has no file for {PREFIX}{variable}"


def nothing_is_in_clear_text(objects: Objects) -> Iterator[str]:
    for pod, container in objects.containers():
        if f"{PREFIX}CLEAR_TEXT" in environment(container):
            yield f"{pod}: clear text is for one machine"


POLICIES = (
    parts_show_their_own_certificate,
    certificates_have_the_names_that_callers_use,
    the_studio_is_a_client,
    nothing_is_in_clear_text,
)
