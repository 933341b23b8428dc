"""A Kafka as one would run it: SASL_SSL with SCRAM-SHA-512 on its only client listener, ACLs on, nobody in by default.

In: a folder. Out: `SecureKafka`, its certificate authority, and settings for any of its users. Knows no topic.
Invariant: there is no listener on which a client gets in without TLS and a password (the controller's, for the broker
itself, is the one exception).
"""

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import certificates
from tests.servers.kafka import RUN, START_TIMEOUT_S, free_ports, kafka_missing

HOST = "127.0.0.1"
ADMIN, WORKER, OPERATOR, PRODUCER, DASHBOARD, STRANGER = (
    "admin",
    "eureka-worker",
    "eureka-operator",
    "call-center",
    "dashboard",
    "stranger",
)
MECHANISM = "SCRAM-SHA-512"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
JAVA = ["-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login} required username="admin" password="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={bundle}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
log.dirs={folder}/data
num.network.threads=2
num.io.threads=2
background.threads=2
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.segment.bytes=67108864
"""


CLIENT = """
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config={login} required username="{user}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""
PROGRAM = '#!/bin/sh\nexec java %s -cp "%s/*" %s "$@"\n'


@dataclass(frozen=True)
class SecureKafka:
    """Where it is, whom to trust, and the password of each user."""

    port: int
    authority: Path
    other_authority: Path
    passwords: dict[str, str]
    restart: Callable[[], None]  # as a crash; every client has to log in again

    def settings(self, user: str, *, host: str = HOST, **more: Any) -> dict[str, Any]:
        """What a client of ours needs to be let in as `user`."""
        return {
            "brokers": "%s:%d" % (host, self.port),
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": MECHANISM,
            "sasl_username": user,
            "sasl_password": self.passwords[user],
            "tls_ca_file": str(self.authority),
        } | more

    def properties(self, user: str, folder: Path) -> Path:
        """The same for Kafka's own programs: a file."""
        path = folder / ("%s.properties" % user)
        path.touch(mode=0o600)
        path.write_text(
            CLIENT.format(login=LOGIN, user=user, password=self.passwords[user], authority=self.authority)
        )
        return path


def acl_program(folder: Path) -> Path:
    """Kafka's kafka-acls.sh: the class it calls, without the distribution around it."""
    return program(folder, "kafka-acls.sh", "org.apache.kafka.tools.AclCommand")


def program(folder: Path, name: str, java_class: str) -> Path:
    """One of Kafka's own programs."""
    path = folder / name
    path.write_text(PROGRAM % (" ".join(JAVA), _jars(), java_class))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def secure_kafka() -> Iterator[SecureKafka]:
    """One for the session; its certificate is for 127.0.0.1 and not for localhost."""
    missing = kafka_missing()
    if missing is not None:
        pytest.skip("needs Apache Kafka: %s" % missing)
    with tempfile.TemporaryDirectory(prefix="eureka-secure-kafka-") as name:
        folder = Path(name)
        ours, other = (certificates.authority(folder, n) for n in ("our-authority", "other-authority"))
        server = certificates.server(folder, "broker", ours, ["IP:%s" % HOST])
        port, controller = free_ports(2)
        passwords = {
            user: secrets.token_urlsafe(18)
            for user in (ADMIN, WORKER, OPERATOR, PRODUCER, DASHBOARD, STRANGER)
        }
        (folder / "server.properties").write_text(
            PROPERTIES.format(
                port=port,
                controller=controller,
                login=LOGIN,
                password=passwords[ADMIN],
                bundle=server.bundle,
                authority=ours.certificate,
                folder=folder,
            )
        )
        _format(folder, passwords)
        process = _start(folder, port)

        def restart() -> None:
            nonlocal process
            _kill(process)
            process = _start(folder, port)

        try:
            yield SecureKafka(port, ours.certificate, other.certificate, passwords, restart)
        finally:
            _kill(process)


def _java() -> list[str]:
    return ["java", *JAVA, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", "%s/*" % _jars()]


def _kill(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def _format(folder: Path, passwords: dict[str, str]) -> None:
    users = [
        "--add-scram=SCRAM-SHA-512=[name=%s,password=%s]" % (user, word) for user, word in passwords.items()
    ]
    format_ = ["kafka.tools.StorageTool", "format", "--cluster-id", "EurekaSecureKafkaTest0", *users]
    command = [*_java(), *format_, "--config", str(folder / "server.properties")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("Kafka could not be formatted: %s" % (done.stdout + done.stderr)[-2000:])


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    log = folder / "kafka.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*_java(), "kafka.Kafka", str(folder / "server.properties")],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError("Kafka ended at start: %s" % log.read_text(errors="replace")[-2000:])
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return process
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    raise RuntimeError("Kafka did not start in %g s: %s" % (START_TIMEOUT_S, log.read_text()[-2000:]))


def _jars() -> str:
    """Where `kafka_missing` has had them fetched to, as deploy/kafka/run.sh has it."""
    if named := os.environ.get("EUREKA_KAFKA_JARS"):
        return named
    (complete,) = (RUN.parents[2] / "build" / "kafka").glob("*/.complete")
    return str(complete.parent)
