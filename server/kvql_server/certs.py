"""A small certificate authority for one server: ``ca.pem`` for clients, ``server.pem`` and ``server.key`` for it.

The CA signs exactly one certificate and its private key is forgotten at once, so nobody can sign another with it; to
renew, make a new set and hand out the new ``ca.pem``. Keys are ECDSA P-256.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS: Final = 365
CA, CERTIFICATE, KEY = "ca.pem", "server.pem", "server.key"


class CertificateError(Exception):
    """The certificate files cannot be used; the message names the file and what to do."""


def make(folder: Path, hosts: Sequence[str]) -> None:
    """Write the three files into ``folder`` for a server reached by any of ``hosts`` (names or addresses)."""
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _authority(ca_key)
    server = _server(server_key, ca_key, ca, hosts)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(folder / KEY, private, 0o600)
    _write(folder / CERTIFICATE, server.public_bytes(Encoding.PEM), 0o644)
    _write(folder / CA, ca.public_bytes(Encoding.PEM), 0o644)


def _builder(days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "KVQL server authority")])
    return (
        _builder(DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey, ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, hosts: Sequence[str]
) -> x509.Certificate:
    return (
        _builder(DAYS)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """The names of the certificate; ``localhost`` stands for the loopback addresses too."""
    wanted = list(dict.fromkeys(hosts))
    if "localhost" in wanted:
        wanted += [address for address in ("127.0.0.1", "::1") if address not in wanted]
    names: list[x509.GeneralName] = []
    for host in wanted:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host.encode("idna").decode() if not host.isascii() else host))
            except (ValueError, UnicodeError):
                raise CertificateError(f"{host!r} is neither a host's name nor an address") from None
    return names


def _write(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)


def load(folder: Path) -> tuple[bytes, bytes]:
    """(key, certificate) for the server, checked: present, belonging together, in force, and the key private."""
    key_path, certificate_path = folder / KEY, folder / CERTIFICATE
    try:
        key, certificate = key_path.read_bytes(), certificate_path.read_bytes()
        mode = stat.S_IMODE(key_path.stat().st_mode)
    except FileNotFoundError as e:
        raise CertificateError(
            f"{e.filename} is missing; make certificates with: kvql-server certs --host localhost"
        ) from None
    except OSError as e:
        raise CertificateError(f"cannot read {e.filename}: {e.strerror}") from None
    if mode & 0o077:
        raise CertificateError(f"{key_path} can be read by others (mode {mode:o}); run: chmod 600 {key_path}")
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise CertificateError(f"{key_path} is no private key in PEM form (without a password)") from None
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise CertificateError(f"{certificate_path} is no certificate in PEM form") from None
    if leaf.public_key() != private.public_key():
        raise CertificateError(f"{key_path} does not belong to {certificate_path}; make both anew: kvql-server certs")
    now = datetime.datetime.now(datetime.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        first, last = f"{leaf.not_valid_before_utc:%Y-%m-%d}", f"{leaf.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateError(
            f"{certificate_path} is valid from {first} to {last}, not now; make a new one with: kvql-server certs"
        )
    return key, certificate
