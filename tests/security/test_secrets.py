"""Secrets come in by variables and files and do not come out: no repr, no dump, no error, no argument."""

import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from storage import connect
from streams.messages import Unavailable
from tests.security.clients import eureka
from tests.servers import certificates
from workers.exits import Exit
from workers.settings import Settings, SettingsError, kafka_security, load_settings

WORD = "canary-word"
SECRETS = {
    "database_url": "postgresql://eureka:%s@127.0.0.1:1/calls" % WORD,
    "sasl_password": "%s-of-the-broker" % WORD,
}


def settings_with_secrets() -> Settings:
    return Settings(security_protocol="SASL_PLAINTEXT", sasl_username="eureka", **SECRETS)  # type: ignore[arg-type]


def test_settings_show_no_secret_however_they_are_printed() -> None:
    settings = settings_with_secrets()
    assert kafka_security(settings)["sasl_plain_password"] == SECRETS["sasl_password"]
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    shown += ["%r" % [settings], repr(settings.model_copy()), str(list(settings))]
    assert [text for text in shown if WORD in text] == []


def test_a_wrong_setting_beside_secrets_quotes_neither() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(vad_mode=WORD, **SECRETS)  # type: ignore[arg-type]
    assert WORD not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(SettingsError) as told:
        load_settings(session_timeout_s=0.1, **SECRETS)
    assert WORD not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:%s@h/d",
        "%s",
        "postgresql://u:%s@h:port/d",
        "postgresql://u:%s/@h:x/d",
        "postgresql://u:12/%s@h/d",
        "postgresql://u:1,%s?2@h/d",
        "postgresql://u:1,%s#2@h/d",
    ],
)
def test_a_database_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        connect.address(url % WORD)
    assert WORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "command", [("doctor",), ("topics", "check"), ("db", "check"), ("tail", "--limit", "1")]
)
def test_commands_that_fail_show_no_secret(command: tuple[str, ...]) -> None:
    plain = {"brokers": "127.0.0.1:1", "security_protocol": "SASL_PLAINTEXT", "sasl_username": "eureka"}
    done = eureka(plain | SECRETS, *command)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout + done.stderr
    assert WORD not in done.stdout + done.stderr


def test_a_worker_without_its_secrets_folder_does_not_start(tmp_path: Path) -> None:
    done = eureka({"secrets_dir": str(tmp_path / "nowhere")}, "worker")
    assert (done.returncode, done.stdout) == (Exit.FAILED, "")
    assert done.stderr == "eureka: settings: EUREKA_SECRETS_DIR: %s is not there\n" % (tmp_path / "nowhere")


def test_tls_files_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    """They used to end a command with a traceback, and a locked key with a question on the terminal."""
    authority = certificates.authority(tmp_path, "authority")
    locked = certificates.authority(tmp_path, "locked", password=WORD)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    plain = {"security_protocol": "SSL", "brokers": "127.0.0.1:1"}
    for files in (
        {"tls_ca_file": str(tmp_path / "absent.crt")},
        {"tls_ca_file": str(rubbish)},
        {"tls_cert_file": str(authority.certificate), "tls_key_file": str(tmp_path / "absent.key")},
        {"tls_cert_file": str(authority.certificate), "tls_key_file": str(locked.key)},
    ):
        done = eureka(plain | files, "topics", "check")
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.count("\n") == 1
        assert "tls_ca_file, tls_cert_file or tls_key_file cannot be used: " in done.stderr
