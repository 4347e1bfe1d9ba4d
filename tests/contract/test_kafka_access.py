"""How Kafka is reached: what a client gets, and what is refused before it connects."""

from pathlib import Path

import pytest
import trustme

from contract.kafka_access import AUTHORITY, CERTIFICATE, KEY, KafkaAccess, KafkaAccessError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(tmp_path / CERTIFICATE)
    own.private_key_pem.write_to_path(tmp_path / KEY)
    authority.cert_pem.write_to_path(tmp_path / AUTHORITY)
    return tmp_path


@pytest.mark.parametrize("bootstrap", ["localhost:9092", "127.0.0.1:9092", "[::1]:9092", "localhost:1,127.0.0.2:2"])
def test_clear_text_is_for_brokers_of_this_machine(bootstrap: str) -> None:
    assert KafkaAccess(bootstrap).config == {"bootstrap_servers": bootstrap.split(",")}


@pytest.mark.parametrize("bootstrap", ["kafka:9092", "10.0.0.1:9092", "localhost:1,kafka:2", "localhost.evil:1"])
def test_and_for_no_other(bootstrap: str) -> None:
    with pytest.raises(KafkaAccessError, match="--kafka-certificates"):
        KafkaAccess(bootstrap)


def test_with_a_certificate_every_broker_is_asked_for_its_own(folder: Path) -> None:
    config = KafkaAccess("kafka:9093", folder).config
    assert config == {
        "bootstrap_servers": ["kafka:9093"],
        "security_protocol": "SSL",
        "ssl_cafile": str(folder / AUTHORITY),
        "ssl_certfile": str(folder / CERTIFICATE),
        "ssl_keyfile": str(folder / KEY),
    }


@pytest.mark.parametrize("file", [AUTHORITY, CERTIFICATE, KEY])
def test_a_folder_without_one_of_its_files_or_with_another_is_refused(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    with pytest.raises(KafkaAccessError, match=r"must hold tls\.crt, tls\.key and ca\.crt"):
        KafkaAccess("kafka:9093", folder)
    (folder / file).write_bytes(b"no PEM")
    with pytest.raises(KafkaAccessError):
        KafkaAccess("kafka:9093", folder)
    (folder / file).write_bytes(content)
    KafkaAccess("kafka:9093", folder)


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(folder / KEY)
    with pytest.raises(KafkaAccessError):
        KafkaAccess("kafka:9093", folder)
