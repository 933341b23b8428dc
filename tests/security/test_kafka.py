"""Kafka with TLS, SCRAM-SHA-512 and ACLs: everything of ours gets in by its name, and nothing does without.

The broker is a real one (tests/servers/kafka_tls.py); the rights are those that deploy/kafka/acls.sh has given with
Kafka's own program.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    NewTopic,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from tests.security.clients import ROOT, eureka, records, said, worker
from tests.security.waiting import until
from tests.servers.kafka import free_ports
from tests.servers.kafka_tls import (
    ADMIN,
    DASHBOARD,
    OPERATOR,
    PRODUCER,
    STRANGER,
    WORKER,
    SecureKafka,
    acl_program,
    program,
)
from tests.sim.scenario import speech_like
from workers.ask import ask_health
from workers.exits import Exit
from workers.recordings import write_wav
from workers.settings import Settings

PREFIX = "call-center."
GROUP = "secure-group"
ALL_RIGHTS = ACLFilter(
    None,
    None,
    ACLOperation.ANY,
    ACLPermissionType.ANY,
    ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
)


@pytest.fixture(scope="module")
def ready_kafka(secure_kafka: SecureKafka, tmp_path_factory: pytest.TempPathFactory) -> SecureKafka:
    """With topics made by `eureka topics create` and the rights that deploy/kafka/acls.sh gives."""
    done = eureka(common(secure_kafka, ADMIN), "topics", "create", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6
    folder = tmp_path_factory.mktemp("acls")
    acls = acl_program(folder)
    given = subprocess.run(
        [
            str(ROOT / "deploy" / "kafka" / "acls.sh"),
            "127.0.0.1:%d" % secure_kafka.port,
            str(secure_kafka.properties(ADMIN, folder)),
            PREFIX,
            GROUP,
        ],
        env=os.environ | {"PATH": "%s:%s" % (acls.parent, os.environ["PATH"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert given.returncode == 0, given.stdout + given.stderr
    return secure_kafka


def common(kafka: SecureKafka, user: str, **more: Any) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "topic_prefix": PREFIX,
        "group_id": GROUP,
        "chunk_partitions": 2,
        "result_partitions": 1,
    }
    return kafka.settings(user, **shape, **more)


def worker_settings(kafka: SecureKafka, database_url: str, **more: Any) -> dict[str, Any]:
    quick = {"session_timeout_s": 6.0, "heartbeat_interval_s": 0.5, "drain_grace_s": 5.0}
    engine = {"engine_factory": "tests.workers.engines:Hashing", "engine_args": {}}
    return common(kafka, WORKER, database_url=database_url, **quick, **engine) | more


def admin(kafka: SecureKafka, user: str) -> KafkaAdminClient:
    return KafkaAdminClient(**client(kafka, user))


def client(kafka: SecureKafka, user: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": "127.0.0.1:%d" % kafka.port,
        "security_protocol": "SASL_SSL",
        "ssl_cafile": str(kafka.authority),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": user,
        "sasl_plain_password": kafka.passwords[user],
    }


def change_password(kafka: SecureKafka, user: str, word: str) -> None:
    change = UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, word)
    with closing(admin(kafka, ADMIN)) as asked:
        asked.alter_user_scram_credentials([change])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "call.wav"
    write_wav(path, speech_like(np.random.default_rng(3), 6.0, 1)[:, 0])
    return path


def test_everything_of_ours_gets_in_by_its_name(
    ready_kafka: SecureKafka, database_url: str, recording: Path, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with worker(worker_settings(ready_kafka, database_url), log) as process:
        until(lambda: said(log, "worker ready") or process.poll() is not None, "worker ready")
        sent = eureka(common(ready_kafka, PRODUCER), "send", "--fast", "--json", str(recording))
        assert (sent.returncode, sent.stderr) == (0, "")
        assert json.loads(sent.stdout)["complete"]
        tail = ["tail", "--from-start", "--kind", "transcript", "--limit", "1", "--json"]
        tailed = eureka(common(ready_kafka, DASHBOARD), *tail)
        assert (tailed.returncode, tailed.stderr) == (0, "")
        assert json.loads(tailed.stdout)["stream_id"] == "call"
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    checked = eureka(common(ready_kafka, WORKER), "topics", "check", "--json")
    assert (checked.returncode, checked.stderr) == (0, "")
    states = [json.loads(line) for line in checked.stdout.splitlines()]
    assert all(state["problem"] is None and state["max_message_bytes"] for state in states)
    doctor = eureka(common(ready_kafka, WORKER, database_url=database_url), "doctor", "--json")
    found = {f["name"]: f["state"] for f in map(json.loads, doctor.stdout.splitlines())}
    assert (found["broker"], found["topics"], found["database"]) == ("ok", "ok", "ok")
    everything = log.read_text() + "".join(d.stdout + d.stderr for d in (sent, tailed, checked, doctor))
    assert [user for user, word in ready_kafka.passwords.items() if word in everything] == []


def test_rights_end_where_the_script_ends_them(ready_kafka: SecureKafka, recording: Path) -> None:
    sent = eureka(common(ready_kafka, DASHBOARD), "send", "--fast", str(recording))
    letters = eureka(common(ready_kafka, DASHBOARD), "tail", "--kind", "deadletter", "--limit", "1")
    nobody = eureka(common(ready_kafka, STRANGER), "topics", "check")
    for done in (sent, letters, nobody):
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert one_line(sent.stderr)
    assert one_line(letters.stderr)
    assert "missing" in nobody.stdout  # a topic that one may not see is not there


def test_the_script_gives_what_it_says_and_no_more(ready_kafka: SecureKafka) -> None:
    asked = admin(ready_kafka, ADMIN)
    try:
        found, _ = asked.describe_acls(ALL_RIGHTS)
    finally:
        asked.close()
    given = {(a.principal, a.operation.name, a.resource_pattern.resource_name) for a in found}
    results = {PREFIX + "audio." + name for name in ("transcripts", "captions", "events", "alerts")}
    chunks, refused = PREFIX + "audio.chunks", PREFIX + "audio.deadletters"
    assert len(found) == len(given)
    assert given == {
        *{("User:" + WORKER, right, chunks) for right in ("READ", "DESCRIBE_CONFIGS")},
        ("User:" + WORKER, "READ", GROUP),
        *{("User:" + WORKER, r, name) for r in ("WRITE", "DESCRIBE_CONFIGS") for name in results | {refused}},
        *{("User:" + OPERATOR, right, chunks) for right in ("READ", "WRITE", "DESCRIBE_CONFIGS")},
        *{("User:" + OPERATOR, r, name) for r in ("WRITE", "DESCRIBE_CONFIGS") for name in results},
        *{("User:" + OPERATOR, r, refused) for r in ("DESCRIBE", "DESCRIBE_CONFIGS")},
        ("User:" + OPERATOR, "DESCRIBE", GROUP),
        ("User:" + PRODUCER, "WRITE", chunks),
        *{("User:" + DASHBOARD, "READ", name) for name in results},
    }


def beyond(kafka: SecureKafka, user: str, name: str) -> None:
    """What this user never does, tried in its name."""
    topic = TopicPartition(PREFIX + "audio." + ("chunks" if name == "send audio" else "deadletters"), 0)
    match name:
        case "send audio" | "send a dead letter":
            producer = KafkaProducer(**client(kafka, user))
            try:
                producer.send(topic.topic, b"x").get(20)
            finally:
                producer.close()
        case "read dead letters":
            consumer = KafkaConsumer(**client(kafka, user))
            try:
                consumer.assign([topic])
                consumer.seek(topic, 0)
                consumer.poll(20_000)
            finally:
                consumer.close()
        case "join the workers":
            consumer = KafkaConsumer(**client(kafka, user), group_id=GROUP)
            try:
                consumer.subscribe([PREFIX + "audio.chunks"])
                consumer.poll(20_000)
            finally:
                consumer.close()
        case _:
            asking = admin(kafka, user)
            try:
                match name:
                    case "make a topic":
                        asking.create_topics([NewTopic(PREFIX + "mine", 1, 1)])
                    case "delete a topic":
                        asking.delete_topics([topic.topic])
                    case "delete records":
                        asking.delete_records({topic: 0})
                    case "read the rights":
                        asking.describe_acls(ALL_RIGHTS)
            finally:
                asking.close()


@pytest.mark.parametrize(
    "name",
    [
        "send audio",
        "read dead letters",
        "make a topic",
        "delete a topic",
        "delete records",
        "read the rights",
    ],
)
def test_a_worker_may_do_its_work_and_nothing_else(ready_kafka: SecureKafka, name: str) -> None:
    with pytest.raises((TopicAuthorizationFailedError, ClusterAuthorizationFailedError)):
        beyond(ready_kafka, WORKER, name)


@pytest.mark.parametrize(
    "name",
    [
        "send a dead letter",
        "read dead letters",
        "join the workers",
        "make a topic",
        "delete a topic",
        "delete records",
        "read the rights",
    ],
)
def test_an_operator_may_do_its_work_and_nothing_else(ready_kafka: SecureKafka, name: str) -> None:
    with pytest.raises(
        (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
    ):
        beyond(ready_kafka, OPERATOR, name)


LOOKED_AT = ("broker", "topics", "database")


@pytest.mark.timeout(480)  # a dozen commands, one after the other
def test_an_operator_looks_puts_back_analyses_again_and_erases(
    ready_kafka: SecureKafka, database_url: str, recording: Path, tmp_path: Path
) -> None:
    """Each command to its end as the user eureka-operator, on what a worker with a limit too low has refused."""
    log = tmp_path / "worker.log"
    streams = {"yesterday": "audio/x-raw", "narrow": "audio/PCMU"}  # 100 ms are 3200 bytes, and 800
    operator = worker_settings(ready_kafka, database_url) | common(ready_kafka, OPERATOR)
    narrow = worker_settings(ready_kafka, database_url, max_chunk_bytes=1000, commit_interval_s=0.5)
    with worker(narrow, log) as process:
        until(lambda: said(log, "worker ready") or process.poll() is not None, "worker ready")
        for name, content in streams.items():
            said_so = ["--stream-id", name, "--content-type", content, str(recording)]
            sent = eureka(common(ready_kafka, PRODUCER), "send", "--fast", *said_so)
            assert (sent.returncode, sent.stderr) == (0, "")
        until(lambda: len(letters(operator)) == 60, "a dead letter for each of 60 chunks")
        until(lambda: lag(ready_kafka, tmp_path) == ["0", "0"], "all is read")
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    doctor = eureka(operator, "doctor", "--json")
    found = [f for f in map(json.loads, doctor.stdout.splitlines()) if f["name"] in LOOKED_AT]
    assert [f for f in found if f["state"] != "ok"] == []
    assert len(found) == len(LOOKED_AT)
    chosen = ["--reason", "too_large", "--stream", "yesterday", "--by", "ann", "--json"]
    back = eureka(operator, "deadletters", "requeue", *chosen)
    assert (back.returncode, back.stderr) == (0, "")
    assert {json.loads(line)["outcome"] for line in back.stdout.splitlines()} == {"requeued"}
    again = eureka(operator, "replay", "--stream", "narrow", "--run-id", "day-two", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["added"]["transcript"] > 0, again.stdout
    gone = eureka(operator, "erase", "--tenant", "default", "--stream", "yesterday", "--yes", "--json")
    assert gone.returncode == 0, gone.stderr
    assert all(stays["retention_ms"] is not None for stays in json.loads(gone.stdout)["stays"])
    assert letters(operator) == []


def lag(kafka: SecureKafka, folder: Path) -> list[str]:
    """What Kafka's own program tells an operator of the workers' group: the lag of each partition."""
    asked = program(
        folder, "kafka-consumer-groups.sh", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    )
    server = ["--bootstrap-server", "127.0.0.1:%d" % kafka.port]
    login = ["--command-config", str(kafka.properties(OPERATOR, folder))]
    done = subprocess.run(
        [str(asked), *server, *login, "--describe", "--group", GROUP],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    columns = [line.split() for line in done.stdout.splitlines()]
    return [row[5] for row in columns if row[1:2] == [PREFIX + "audio.chunks"]]


def letters(settings: dict[str, Any]) -> list[dict[str, Any]]:
    listed = eureka(settings, "deadletters", "list", "--stream", "yesterday", "--limit", "100", "--json")
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.startswith("eureka: ")


def wrong(kafka: SecureKafka) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each way to be refused, and what is said of it."""
    yield "password", {"sasl_password": "wrong-secret-word"}, "refuses sasl_username or sasl_password"
    yield "user", {"sasl_username": "nobody-known"}, "refuses sasl_username or sasl_password"
    yield "mechanism", {"sasl_mechanism": "PLAIN"}, "does not take PLAIN"
    yield "authority", {"tls_ca_file": str(kafka.other_authority)}, "unable to get local issuer certificate"
    yield "host", {"brokers": "localhost:%d" % kafka.port}, "certificate is not valid for 'localhost'"
    yield "plaintext", {"security_protocol": "PLAINTEXT"}, "is security_protocol PLAINTEXT right?"
    yield "no TLS", {"security_protocol": "SASL_PLAINTEXT"}, "is security_protocol SASL_PLAINTEXT right?"
    yield "no SASL", {"security_protocol": "SSL"}, "is security_protocol SSL right?"


WRONG = ("password", "user", "mechanism", "authority", "host", "plaintext", "no TLS", "no SASL")
WRONG_FOR_OTHERS = ("password", "host")
LIBRARIES, OTHERS = ("tail", "check"), ("send", "create", "doctor")
AT_ONCE = 8
Asked = dict[tuple[str, str], "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def asked(ready_kafka: SecureKafka, recording: Path) -> Iterator[Asked]:
    """What is said to each, begun together: every command waits for seconds before it gives up."""
    commands = {
        "tail": ("tail", "--limit", "1"),
        "check": ("topics", "check"),
        "send": ("send", "--fast", str(recording)),
        "create": ("topics", "create"),
        "doctor": ("doctor", "--json"),
    }
    with ThreadPoolExecutor(AT_ONCE) as executor:
        yield {
            (name, command): executor.submit(
                eureka, common(ready_kafka, WORKER) | changes, *commands[command]
            )
            for name, changes, _ in wrong(ready_kafka)
            for command in (*LIBRARIES, *(OTHERS if name in WRONG_FOR_OTHERS else ()))
        }
        executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", WRONG)
def test_who_is_not_let_in_is_told_why_in_one_line(ready_kafka: SecureKafka, asked: Asked, name: str) -> None:
    """Once for each of the two libraries."""
    refused(ready_kafka, asked, name, *LIBRARIES)


def refused(kafka: SecureKafka, asked: Asked, name: str, *commands: str) -> None:
    changes, reason = next((c, r) for n, c, r in wrong(kafka) if n == name)
    for command in commands:
        done = asked[name, command].result()
        assert (done.returncode, done.stdout) == (1, ""), command
        assert one_line(done.stderr), (command, done.stderr)
        assert reason in done.stderr, (command, done.stderr)
        assert (common(kafka, WORKER) | changes)["sasl_password"] not in done.stderr


@pytest.mark.parametrize("name", WRONG_FOR_OTHERS)
def test_the_other_commands_say_the_same(ready_kafka: SecureKafka, asked: Asked, name: str) -> None:
    changes, reason = next((c, r) for n, c, r in wrong(ready_kafka) if n == name)
    refused(ready_kafka, asked, name, "send", "create")
    doctor = asked[name, "doctor"].result()
    found = {f["name"]: f for f in map(json.loads, doctor.stdout.splitlines())}
    assert found["broker"]["state"] == found["topics"]["state"] == "missing"
    assert reason in found["broker"]["detail"]
    assert (common(ready_kafka, WORKER) | changes)["sasl_password"] not in doctor.stdout + doctor.stderr


@pytest.mark.parametrize("name", ["password", "plaintext"])
def test_a_worker_that_is_not_let_in_ends_with_the_reason(
    ready_kafka: SecureKafka, database_url: str, tmp_path: Path, name: str
) -> None:
    changes, reason = next((c, r) for n, c, r in wrong(ready_kafka) if n == name)
    settings = worker_settings(ready_kafka, database_url, broker_attempts=3, broker_retry_s=0.1) | changes
    log = tmp_path / "worker.log"
    with worker(settings, log) as process:
        assert process.wait(60) == Exit.UNAVAILABLE
    *before, last = records(log)
    assert last["message"] == "worker ended"
    assert reason in last["reason"]
    tries = [record for record in before if record["message"] == "waiting for the broker"]
    assert len(tries) == (2 if name == "plaintext" else 0), "a wrong password is not tried again"
    assert settings["sasl_password"] not in log.read_text()


def test_a_worker_without_the_right_to_its_group_does_not_run_on_in_silence(
    ready_kafka: SecureKafka, database_url: str, tmp_path: Path
) -> None:
    """It used to: the consumer asks for its group again and again, and nobody hears of it."""
    log = tmp_path / "worker.log"
    settings = worker_settings(ready_kafka, database_url, group_id="someone-elses-group")
    with worker(settings, log) as process:
        assert process.wait(60) == Exit.UNAVAILABLE, log.read_text()
    assert records(log)[-1]["reason"] == "the broker refuses us the group someone-elses-group"


def test_a_password_that_is_changed_while_a_worker_runs_ends_it_with_the_reason(
    ready_kafka: SecureKafka, database_url: str, tmp_path: Path
) -> None:
    """It used to run on: aiokafka tries the old password for ever, and the worker said only that nothing is fetched."""
    log = tmp_path / "worker.log"
    (port,) = free_ports(1)
    settings = worker_settings(ready_kafka, database_url, highwater_max_age_s=0.5, health_port=port)
    with worker(settings, log) as process:
        until(lambda: said(log, "worker ready") or process.poll() is not None, "worker ready")
        change_password(ready_kafka, WORKER, "word-of-the-day-after")
        try:
            ready_kafka.restart()
            why = "the broker does not let us in"
            until(lambda: why in ask_health(Settings(**settings), "ready")["reasons"], why)
            assert process.wait(30) == Exit.UNAVAILABLE, log.read_text()
        finally:
            change_password(ready_kafka, WORKER, ready_kafka.passwords[WORKER])
    *before, last = records(log)
    refuses = "the broker at 127.0.0.1:%d refuses sasl_username or sasl_password" % ready_kafka.port
    # In haste where closing waits for the broker longer than it may.
    assert last["message"] in ("worker ended", "worker ended in haste")
    assert last["reason"] == refuses
    assert [r["reason"] for r in before if r["message"] == "the broker is away"][-1] == refuses
    assert settings["sasl_password"] not in log.read_text()
