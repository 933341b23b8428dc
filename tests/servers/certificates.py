"""Certificate authorities and server certificates for the tests, by the `openssl` command, valid for two days.

In: a folder, names. Out: PEM files in it. Knows no Kafka and no PostgreSQL. Invariant: a server's certificate names
exactly the hosts that were asked for, so a host-name check has something to refuse.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
[req]
prompt = no
distinguished_name = name
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = {hosts}
"""


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate, its key (PKCS #8), and both in one."""

    certificate: Path
    key: Path
    bundle: Path


def authority(folder: Path, name: str, *, password: str | None = None) -> Certificate:
    """A certificate authority of its own; with a password its key is locked."""
    locked = [] if password is None else ["-passout", "pass:" + password]
    return _make(folder, name, "authority", "DNS:unused.invalid", *(locked or ["-noenc"]))


def server(folder: Path, name: str, signed_by: Certificate, hosts: Sequence[str]) -> Certificate:
    """A server's certificate for `hosts`, each as OpenSSL writes it: `DNS:localhost`, `IP:127.0.0.1`."""
    signer = ["-noenc", "-CA", str(signed_by.certificate), "-CAkey", str(signed_by.key)]
    return _make(folder, name, "server", ",".join(hosts), *signer)


def _make(folder: Path, name: str, section: str, hosts: str, *options: str) -> Certificate:
    made = Certificate(*(folder / ("%s.%s" % (name, kind)) for kind in ("crt", "key", "pem")))
    config = folder / ("%s.cnf" % name)
    config.write_text(CONFIG.format(name=name, hosts=hosts))
    command = [
        "openssl",
        "req",
        "-x509",
        "-config",
        str(config),
        "-extensions",
        section,
        "-days",
        "2",
        *options,
    ]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("openssl: %s" % done.stderr[-1000:])
    made.bundle.write_text(made.key.read_text() + made.certificate.read_text())
    return made
