"""Settings come from the environment and files; secrets do not come out again."""

from base64 import b64encode
from pathlib import Path

import pytest

from workers.parts import pipeline_limits, pool_config
from workers.settings import Settings, SettingsError, kafka_security, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("EUREKA_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_environment_file_secret_file_and_override(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("EUREKA_GROUP_ID=from-file\nEUREKA_TOPIC_PREFIX=x.\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "EUREKA_SASL_PASSWORD").write_text("hush")
    monkeypatch.setenv("EUREKA_ENV_FILE", str(tmp_path / "my.env"))
    monkeypatch.setenv("EUREKA_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:canary@h/d")
    monkeypatch.setenv("EUREKA_BROKERS", "a:1, b:2")
    settings = load_settings(security_protocol="SASL_PLAINTEXT", sasl_username="me", max_chunk_bytes=10)
    assert settings.group_id == "from-file"
    assert settings.topics.chunks == "x.audio.chunks"
    assert settings.broker_list == ["a:1", "b:2"]
    assert settings.max_chunk_bytes == 10
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:canary@h/d"
    assert kafka_security(settings)["sasl_plain_password"] == "hush"
    assert "canary" not in repr(settings)
    assert "hush" not in repr(settings)


def test_what_makes_no_sense_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EUREKA_VAD_MODE", "canary")
    with pytest.raises(SettingsError, match="vad_mode") as caught:
        load_settings()
    assert "canary" not in str(caught.value)
    monkeypatch.delenv("EUREKA_VAD_MODE")
    with pytest.raises(SettingsError, match="heartbeat_interval_s"):
        load_settings(heartbeat_interval_s=5, session_timeout_s=6)
    with pytest.raises(SettingsError, match="sasl_password"):
        load_settings(security_protocol="SASL_SSL", sasl_username="me")


def test_a_dead_letter_fits_however_small_chunks_may_be() -> None:
    """Its producer refused it, and the sweep with all that was in it, where chunks were to be smaller than letters."""
    for chunk_bytes in (1000, 1 << 20):
        settings = Settings(max_chunk_bytes=chunk_bytes)
        assert settings.max_message_bytes > max(
            chunk_bytes, len(b64encode(bytes(settings.dead_letter_payload_bytes)))
        )


def test_a_secrets_folder_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It used to be a warning, and the worker went on without its password."""
    (tmp_path / "file").touch()
    for wrong, why in ((tmp_path / "nowhere", "is not there"), (tmp_path / "file", "is no folder")):
        monkeypatch.setenv("EUREKA_SECRETS_DIR", str(wrong))
        with pytest.raises(SettingsError, match="EUREKA_SECRETS_DIR: %s %s" % (wrong, why)):
            load_settings()
    (tmp_path / "EUREKA_GROUP_ID").write_text("of the working directory")
    monkeypatch.setenv("EUREKA_SECRETS_DIR", "")
    assert load_settings().group_id == Settings().group_id


def test_the_parts_get_plain_values() -> None:
    settings = Settings(reorder_wait_s=3.0, max_window_s=15, engine_processes=2, device="cuda")
    assert pipeline_limits(settings).session.reorder_wait_s == 3.0
    assert pipeline_limits(settings).session.cutter.max_window_s == 15
    assert pool_config(settings).devices == ("cuda:0", "cuda:1")


def test_a_variable_that_names_no_setting_is_told_with_the_nearest() -> None:
    environment = {"EUREKA_BROKERS": "a:1", "EUREKA_ENV_FILE": "x", "EUREKA_VAD_MOD": "1", "PATH": "/bin"}
    assert unknown_variables(environment) == ["EUREKA_VAD_MOD (did you mean EUREKA_VAD_MODE?)"]
    assert unknown_variables({"EUREKA_KAFKA_JARS": "jars"}) == []  # deploy/kafka/run.sh reads it
    assert unknown_variables({"EUREKA_STREAM_PORT_9092_TCP": "t"}) == ["EUREKA_STREAM_PORT_9092_TCP"]
