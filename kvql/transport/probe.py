"""Why a connection cannot be made, in a sentence that helps.

gRPC says "failed to connect to all addresses" for everything. After such a failure the same steps are walked once more
with plain sockets (name, port, TLS handshake, certificate), and the first that fails is the reason.
"""

from __future__ import annotations

import socket
import ssl

from kvql import errors
from kvql.errors import Error
from kvql.transport.target import Target


def explain(target: Target, ca: str | None, *, plain: bool, timeout_s: float) -> Error:
    """The error of class 08 for ``target``. Blocks for at most ``timeout_s`` a step."""
    try:
        raw = _dial(target, timeout_s)
    except socket.gaierror:
        return _cannot(target, f'no such host: "{target.place}"', "check the spelling of the host")
    except TimeoutError:
        return _cannot(target, f"no answer within {timeout_s:g} s", "check the host, the port and the firewall")
    except ConnectionRefusedError:
        return _cannot(target, "nothing listens there", "start the server with: kvql-server start")
    except FileNotFoundError:
        return _cannot(target, "there is no such socket", "start the server with: kvql-server start")
    except OSError as e:
        return _cannot(target, (e.strerror or type(e).__name__).lower(), None)
    with raw:
        return _cannot_speak(target) if plain or target.kind == "unix" else _handshake(raw, target, ca)


def _dial(target: Target, timeout_s: float) -> socket.socket:
    if target.kind == "server":
        return socket.create_connection((target.place, target.port), timeout_s)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(timeout_s)
    try:
        made.connect(target.place)
    except BaseException:
        made.close()
        raise
    return made


def _handshake(raw: socket.socket, target: Target, ca: str | None) -> Error:
    try:
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(raw, server_hostname=target.place) as tls:
            # who has agreed to HTTP/2 by now could not do so before: it was busy, or just starting
            return _busy(target) if tls.selected_alpn_protocol() == "h2" else _cannot_speak(target)
    except ssl.SSLCertVerificationError as e:
        return _untrusted(target, ca, e)
    except ssl.SSLError:
        return _cannot(target, "it does not speak TLS", "is this the port of kvql-server, and does it serve with TLS?")
    except OSError:
        return _cannot(target, "it ended the connection during the TLS handshake", "look into the server's log")


def _untrusted(target: Target, ca: str | None, e: ssl.SSLCertVerificationError) -> Error:
    """A certificate that is refused: which authority was asked, what is wrong, what to do."""
    trusted = f"by {ca}" if ca else "by a public authority (no CA file was given)"
    if e.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return _cannot(
            target,
            f'its certificate is not made out to "{target.place}"',
            f"connect by a name in the certificate, or make one: kvql-server certs --host {target.place}",
        )
    if e.verify_code in (9, 10):  # not yet valid, expired
        when = "is not valid yet" if e.verify_code == 9 else "has expired"
        return _cannot(target, f"its certificate {when}", "make a new one with: kvql-server certs")
    hint = "pass --ca FILE (ca=…, KVQL_CA) with the ca.pem of this server"
    return _cannot(target, f"its certificate is not signed {trusted}", hint)


def _cannot_speak(target: Target) -> Error:
    return _cannot(target, "it does not speak the protocol of KVQL", "is this the port of kvql-server?")


def _busy(target: Target) -> Error:
    return _cannot(target, "it did not answer in time", "the server is very busy, starting or stopping; try again")


def _cannot(target: Target, why: str, hint: str | None) -> Error:
    return errors.error(errors.CANNOT_CONNECT, f"cannot connect to {target.address}: {why}", hint=hint)


def check_ca(ca: str) -> bytes:
    """The content of the CA file; 08001 if it cannot be one."""
    try:
        with open(ca, "rb") as file:
            content = file.read(1024 * 1024)
        ssl.create_default_context(cadata=content.decode("ascii"))
    except OSError as e:
        raise errors.error(
            errors.CANNOT_CONNECT,
            f"cannot read the CA file {ca}: {(e.strerror or type(e).__name__).lower()}",
            hint="kvql-server certs makes certs/ca.pem beside the server's certificate",
        ) from None
    except (ssl.SSLError, ValueError):
        raise errors.error(
            errors.CANNOT_CONNECT, f"the CA file {ca} holds no certificate", hint="it must be in the PEM format"
        ) from None
    return content
