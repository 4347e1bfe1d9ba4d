"""Every setting of every service: its legal extremes are taken, what is illegal is refused at start, in one line."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from deploy.local.authority import Authority
from services.feedback.settings import Settings as Feedback
from services.generation.settings import Settings as Generation
from services.items.settings import Settings as Items
from services.ranking.settings import Settings as Ranking
from services.runtime.settings import ProcessSettings, load
from services.studio.settings import Settings as Studio
from services.user_embedding.settings import Settings as UserEmbedding

ROOT = Path(__file__).parents[3]
SERVICES: dict[str, type[ProcessSettings]] = {
    "feedback": Feedback,
    "generation": Generation,
    "items": Items,
    "ranking": Ranking,
    "studio": Studio,
    "user_embedding": UserEmbedding,
}
NOTHING = ["", " ", "\t"]
NO_NUMBER = [*NOTHING, "many", "nan", "1,5", "0x", "--1", "1 2"]


SECONDS = (["0.001", "86400", "1", "1e-3"], [*NO_NUMBER, "0", "-0.0", "86400.1", "-1", "inf", "1e400", "9" * 400])
SECONDS_OR_NONE = (["0", "86400", "0.0"], [*NO_NUMBER, "86401", "-0.001", "inf", "9" * 400])
SECONDS_FROM_1 = (["1", "86400"], [*NO_NUMBER, "0.99", "0", "-1", "86401", "inf"])
COUNT = (["1", "1000000", " 7 "], [*NO_NUMBER, "0", "-1", "1.5", "1000001", "1e3", "9" * 400])
COUNT_OR_NONE = (["0", "1000000"], [*NO_NUMBER, "-1", "0.5", "1000001"])
SIZE = (["1", str(2**31 - 1)], [*NO_NUMBER, "0", "-1", str(2**31), "10MiB", "9" * 400])
REQUEST_SIZE = ([str(2**16), str(2**31 - 1)], [*NO_NUMBER, str(2**16 - 1), str(2**31)])
ANSWER_SIZE = ([str(2**20), str(2**31 - 1)], [*NO_NUMBER, str(2**20 - 1), str(2**31)])
PORT = (["0", "1", "65535"], [*NO_NUMBER, "-1", "65536", "80.5", "http", "tcp://10.0.0.1:50051"])
HOST = (
    ["0.0.0.0", "127.0.0.1", "::", "::1", "[::]", "[::1]", "fe80::1", "localhost", "shop-1.example.com", "a_b"],
    [*NOTHING, "a b", "300.1.1.1", "1.2.3", "::g", ":::", "[shop", "-shop", "http://shop", "shop:80", "x" * 300, "[]"],
)
ADDRESS = (
    ["localhost:1", "127.0.0.1:65535", "[::1]:50051", "shop.example.com:80", " shop:80 "],
    [
        *NOTHING,
        "shop",
        "shop:",
        ":80",
        "shop:0",
        "shop:65536",
        "shop:http",
        "::1:80",
        "http://shop:80",
        "a b:80",
        "[]:80",
    ],
)
ADDRESSES = (
    [*ADDRESS[0], "a:1,b:2", " a:1 , b:2 ", "[::1]:9092,127.0.0.1:9092"],
    [*ADDRESS[1], ",", "a:1,", ",a:1", "a:1,,b:2", "a:1;b:2", "a:1 b:2"],
)
DATABASE_URL = (
    [
        "sqlite:///build/x.sqlite",
        "sqlite:////tmp/with space/x.sqlite",
        "postgresql://localhost/x",
        "postgresql://user:p%40ss@[::1]:5432/x?options=-csearch_path%3Dy",
        "postgresql+psycopg://localhost/x",
    ],
    [
        *NOTHING,
        "x",
        "build/x.sqlite",
        "mysql://h/x",
        "http://h/x",
        "sqlite://x.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:service.sqlite?mode=rw&uri=true",
        "postgresql://h:99999/x",
    ]
    + ["postgresql://h:port/x", "://", "postgres://h/x"],
)
OBJECT_STORE_URL = (
    ["file://build/objects", "file:///tmp/with space/objects", "s3://bucket", "s3://bucket/folder", "memory://objects"],
    [*NOTHING, "build/objects", "/tmp/objects", "file://", "file:// ", "s3:/bucket", "nothing://x", "gs3://b", "://x"],
)
TOPIC = (["x", "a.b_c-D9", "x" * 249], [*NOTHING, "a b", "a/b", ".", "..", "x" * 250, "größe", "a,b"])
FOLDER = (
    ["model_repository", "/tmp", "/tmp/with space", "not/there/yet"],
    [*NOTHING, __file__, "x" * 300, "/x" * 3000],
)
FILE = (["keys.json", "/tmp/with space/keys.json"], [*NOTHING, "/tmp", "x" * 300])
DOMAIN = (["perfusion", "shop.example.com", "a_b-c.d"], [*NOTHING, "A", "a/b", "spiffe://a", "x" * 256])
LINE = (["perfusion", "https://login.example.com/realms/shop"], NOTHING)
WEB_URL = (
    ["https://shop.example.com", "https://shop.example.com:8443/login", "http://localhost:8080", "http://[::1]:1"],
    [
        *NOTHING,
        "shop.example.com",
        "http://shop.example.com",
        "ftp://localhost",
        "https://",
        "https:///login",
        "https://lin@shop.example.com",
        "https://@shop.example.com",
        "https://shop.example.com?to=a",
        "https://shop.example.com/#a",
        "https://shop.example.com:0",
        "https://shop.example.com:",
        "https://shop.example.com:99999",
        "https://shop.example.com:http",
        "https://a b",
        "https://a\nb",
        "https://[::1",
        "https://größe.example",
    ],
)
LEVEL = (["DEBUG", "ERROR", " INFO "], [*NOTHING, "debug", "TRACE", "10"])
SHARE = (["0.001", "1", "0.5"], [*NO_NUMBER, "0", "-0.1", "1.01"])
TRACES_TO = (
    [
        "https://collector.example.com:4317",
        "http://localhost:4317",
        "http://[::1]:4317",
        "file://build/traces",
        "file:///tmp/with space",
    ],
    [
        *NOTHING,
        "collector.example.com:4317",
        "http://collector.example.com:4317",
        "https://collector.example.com:4317/v1/traces",
        "grpc://localhost:4317",
        "file://",
        "file:// ",
        f"file://{__file__}",
        "build/traces",
    ],
)
SWITCH = (["true", "false", "1", "0"], [*NOTHING, "maybe", "2"])

FORMS = {
    "certificates": FOLDER,
    "clear_text": SWITCH,
    "client_authority": FILE,
    "client_share": SHARE,
    "database_migrate": SWITCH,
    "database_timeout_s": SECONDS,
    "database_url": DATABASE_URL,
    "default_deadline_s": SECONDS,
    "denoiser_calls": COUNT,
    "denoiser_least_rows": COUNT,
    "denoiser_most_rows": COUNT,
    "denoiser_turn": COUNT,
    "drain_s": SECONDS_OR_NONE,
    "feedback_address": ADDRESS,
    "feedback_topic": TOPIC,
    "generation_address": ADDRESS,
    "groups_topic": TOPIC,
    "health_interval_s": SECONDS,
    "health_timeout_s": SECONDS,
    "hold_days": COUNT,
    "host": HOST,
    "import_picks": COUNT,
    "import_streams": COUNT,
    "import_window": COUNT,
    "items_address": ADDRESS,
    "kafka_bootstrap": ADDRESSES,
    "kafka_certificates": FOLDER,
    "kafka_read_timeout_s": SECONDS,
    "kafka_timeout_s": SECONDS,
    "keepalive_s": SECONDS_FROM_1,
    "lame_duck_s": SECONDS_OR_NONE,
    "log_level": LEVEL,
    "max_batch": COUNT,
    "max_concurrent_calls": COUNT,
    "max_concurrent_rounds": COUNT,
    "max_connection_age_s": SECONDS_FROM_1,
    "max_connection_idle_s": SECONDS_FROM_1,
    "max_deadline_s": SECONDS,
    "max_image_bytes": SIZE,
    "max_image_pixels": SIZE,
    "max_message_bytes": ANSWER_SIZE,
    "max_picks_in_flight": COUNT,
    "max_request_bytes": REQUEST_SIZE,
    "max_waiting_calls": COUNT,
    "max_watches": COUNT,
    "metrics_port": PORT,
    "model_repository": FOLDER,
    "max_readers": COUNT,
    "object_store_timeout_s": SECONDS,
    "object_store_url": OBJECT_STORE_URL,
    "oidc_client_id": LINE,
    "oidc_client_secret": FILE,
    "oidc_issuer": WEB_URL,
    "oidc_merchants_claim": LINE,
    "orders_topic": TOPIC,
    "outbox_backoff_s": SECONDS,
    "outbox_interval_s": SECONDS,
    "pay_within_s": SECONDS,
    "payment_key": FILE,
    "payment_methods": LINE,
    "payment_return_url": WEB_URL,
    "payment_timeout_s": SECONDS,
    "payment_url": WEB_URL,
    "payment_webhook_secret": FILE,
    "port": PORT,
    "presales_topic": TOPIC,
    "public_url": WEB_URL,
    "ranking_address": ADDRESS,
    "recipient_days": COUNT,
    "remembered_embeddings": COUNT_OR_NONE,
    "remembered_picture_bytes": (["0", str(2**31 - 1)], [*NO_NUMBER, "-1", str(2**31)]),
    "round_lease_s": SECONDS_FROM_1,
    "round_timeout_s": SECONDS,
    "rounds_per_merchant": COUNT,
    "service_timeout_s": SECONDS,
    "session_age_s": SECONDS,
    "session_idle_s": SECONDS,
    "settling_interval_s": SECONDS,
    "shop_topic": TOPIC,
    "sweep_grace_s": (["60", "86400"], [*NO_NUMBER, "59.9", "86401", "inf"]),
    "sweep_interval_s": SECONDS_OR_NONE,
    "token": FILE,
    "token_issuer": LINE,
    "token_keys": FILE,
    "traces_share": SHARE,
    "traces_to": TRACES_TO,
    "triton_address": ADDRESS,
    "triton_max_batch": COUNT,
    "triton_timeout_s": SECONDS,
    "trust_domain": DOMAIN,
    "user_embedding_address": ADDRESS,
    "write_timeout_s": SECONDS,
}
HERE = {"port": "0", "metrics_port": "0", "host": "127.0.0.1", "clear_text": "true"}  # of a service's process
A_FILE = str(ROOT / "pyproject.toml")
NEEDED = {  # settings without which it does not start
    "items": {"payment_key": A_FILE, "payment_webhook_secret": A_FILE, "payment_url": "http://127.0.0.1:1"},
    "studio": {"oidc_issuer": "http://127.0.0.1:1"},
}
EACH = [(service, name) for service, kind in SERVICES.items() for name in kind.model_fields]


def test_every_setting_has_its_row() -> None:
    there = {name for kind in SERVICES.values() for name in kind.model_fields}
    assert there - FORMS.keys() == set(), "give the new setting its form above"
    assert FORMS.keys() - there == set(), "these settings are gone"


@pytest.mark.parametrize(("service", "name"), EACH)
def test_every_legal_value_is_taken(service: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in FORMS[name][0]:
        monkeypatch.setenv(f"PERFUSION_{name.upper()}", value)
        got = getattr(load(SERVICES[service]), name)
        if isinstance(got, int | float) and not isinstance(got, bool):
            assert got == float(value)
        elif isinstance(got, str | Path):
            assert str(got) in (value.strip(), value.strip("[] "), ",".join(map(str.strip, value.split(","))))


@pytest.mark.parametrize(("service", "name"), EACH)
def test_every_illegal_value_is_refused_by_name(
    service: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in FORMS[name][1]:
        monkeypatch.setenv(f"PERFUSION_{name.upper()}", value)
        with pytest.raises(SystemExit) as exit_:
            load(SERVICES[service])
        assert exit_.value.code == 2, value
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"PERFUSION_{name.upper()}: must "), line
        assert (SERVICES[service].model_fields[name].description or "?") in line and len(line) < 500


def test_every_wrong_setting_is_named_at_once_and_no_password_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERFUSION_PORT", "x\ny")
    monkeypatch.setenv("PERFUSION_DATABASE_URL", "mysql://shop:secret@host/x")
    with pytest.raises(SystemExit):
        load(Generation)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2 and "secret" not in said and "PERFUSION_DATABASE_URL" in said


def is_number(value: str) -> bool:
    return value.replace(".", "").isdecimal()


def environment(**settings: str) -> dict[str, str]:
    own = {f"PERFUSION_{name.upper()}": value for name, value in settings.items()}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"} | own


async def process(service: str, folder: Path, **settings: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("env", "--default-signal=HUP"),  # which nohup ignores
        *(sys.executable, "-m", f"services.{service}"),
        env=environment(**settings),
        cwd=folder,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_runs_with_every_number_at_its_extreme(service: str, tmp_path: Path) -> None:
    """The smallest and the largest of each together; only a stop and a probe may not take a day."""
    quick = HERE | NEEDED.get(service, {}) | {"lame_duck_s": "0", "health_timeout_s": "1"}
    for end in (0, 1):
        extremes = {
            name: FORMS[name][0][end] for name in SERVICES[service].model_fields if is_number(FORMS[name][0][0])
        }
        running = await process(service, tmp_path, **(extremes | quick))
        assert running.stderr is not None
        lines = []
        async with asyncio.timeout(120):
            while line := await running.stderr.readline():
                lines.append(line)
                if b'"listening"' in line:
                    running.send_signal((signal.SIGTERM, signal.SIGHUP)[end])  # of a terminal that closes
        assert await running.wait() == 0, b"".join(lines).decode()
        assert not any(b"Traceback" in line for line in lines), b"".join(lines).decode()


async def test_a_service_that_cannot_start_says_why_and_fails(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port, proven = str(taken.sockets[0].getsockname()[1]), Authority(tmp_path)
    proven.prepare(["ranking"])
    (empty := tmp_path / "empty").mkdir()
    encrypted = {"clear_text": "false", "certificates": str(proven.folder("ranking"))}
    wrong: list[tuple[str, int, str, dict[str, str]]] = [
        *((service, 2, "PERFUSION_PORT: must be", {"port": "x"}) for service in SERVICES),
        ("ranking", 1, "PERFUSION_PORT", HERE | {"port": port}),
        ("studio", 1, "PERFUSION_PORT", HERE | NEEDED["studio"] | {"port": port}),
        ("studio", 2, "PERFUSION_OIDC_ISSUER must name", HERE),
        ("studio", 2, "PERFUSION_TOKEN must name", encrypted | NEEDED["studio"]),
        ("items", 2, "PERFUSION_PAYMENT_KEY must name", HERE),
        ("items", 2, "PERFUSION_PAYMENT_WEBHOOK_SECRET must name", HERE | {"payment_key": A_FILE}),
        (
            "studio",
            2,
            "PERFUSION_OIDC_CLIENT_SECRET: not/there cannot be read",
            HERE | NEEDED["studio"] | {"oidc_client_secret": "not/there"},
        ),
        ("ranking", 1, "PERFUSION_METRICS_PORT", HERE | {"metrics_port": port}),
        ("ranking", 1, "PERFUSION_HOST", HERE | encrypted | {"host": "nowhere.invalid"}),
        ("feedback", 2, "PERFUSION_KAFKA_CERTIFICATES", HERE | {"kafka_bootstrap": "127.0.0.1:9092,kafka:9092"}),
        ("feedback", 2, f"{empty} must hold tls.crt", HERE | {"kafka_certificates": str(empty)}),
    ]
    for service, code, said, settings in wrong:
        running = await process(service, tmp_path, **settings)
        _, errors = await asyncio.wait_for(running.communicate(), 120)
        assert running.returncode == code, errors.decode()
        assert said in errors.decode() and "Traceback" not in errors.decode()
    taken.close()
