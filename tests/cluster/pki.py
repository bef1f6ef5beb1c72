"""Keys, certificates, tokens and kubeconfigs of a cluster that lives for one test run."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: User: (token, groups). Tokens are no secret: the API server is inside a namespace of our own.
USERS = {
    "admin": ("admin-token", "system:masters"),
    "system:kube-controller-manager": ("kcm-token", ""),
    "system:kube-scheduler": ("sched-token", ""),
    "system:kube-proxy": ("proxy-token", ""),
    "system:node:node1": ("node-token", "system:nodes"),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that signs leaves."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, name: str, folder: Path) -> Authority:
        """Make an authority and write its certificate as NAME.crt."""
        key = _key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        certificate = builder.sign(key, hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(key, certificate)

    def sign(
        self, name: str, folder: Path, *, ips: list[str] | None = None, dns: list[str] | None = None
    ) -> None:
        """Make a leaf for both usages and write NAME.crt and NAME.key."""
        key = _key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips or []
        ]
        names += [x509.DNSName(host) for host in dns or []]
        builder = _builder(subject, self.certificate.subject, key).add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(folder / f"{name}.key", key)


def write_service_account_keys(folder: Path) -> None:
    """Write sa.key and sa.pub, which sign and check service account tokens."""
    key = _key()
    _write_key(folder / "sa.key", key)
    (folder / "sa.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def write_tokens(path: Path) -> None:
    """Write the API server's token file."""
    lines = []
    for user, (token, groups) in USERS.items():
        lines.append(f"{token},{user},{user}" + (f',"{groups}"' if groups else ""))
    path.write_text("\n".join(lines) + "\n")


def kubeconfig(path: Path, *, server: str, ca: Path, user: str) -> Path:
    """Write a kubeconfig for one of USERS."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "tests", "cluster": {"server": server, "certificate-authority": str(ca)}}
        ],
        "users": [{"name": user, "user": {"token": USERS[user][0]}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
        "current-context": "tests",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=30))
    )


def _write_key(path: Path, key: rsa.RSAPrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
