"""``kvql-server``: start, certs, users; verify, backup and status are in ``tools.commands``."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from kvql.errors import Error
from kvql_server import audit, config, users
from kvql_server.catalog import ADMIN
from kvql_server.clock import SystemClock
from kvql_server.exits import USERS
from kvql_server.exits import fail as _fail
from kvql_server.settings import Settings
from kvql_server.tools.commands import backup, status, verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A KVQL server and what it needs: certificates, users, tools for its store."""


def _settings(flags: dict[str, Any], file: str | None) -> Settings:
    try:
        return config.load(flags, os.environ, file)
    except config.SettingsError as e:
        _fail(str(e), 2)


@main.command()
@click.option("--data", help="Folder of the store and of users.json (./data).")
@click.option("--certs", help="Folder of server.pem and server.key (./certs).")
@click.option("--listen", help="HOST:PORT or unix:PATH (127.0.0.1:7443); port 0 takes a free one.")
@click.option("--engine", help="hashtable, or memory: (nothing outlives the process).")
@click.option(
    "--sync", type=click.Choice(["always", "interval", "checkpoint"]), help="When commits reach the disk (always)."
)
@click.option(
    "--checkpoint-interval", "checkpoint_interval_s", type=float, metavar="SECONDS", help="Between checkpoints (300)."
)
@click.option("--plain-text", is_flag=True, default=None, help="Without TLS; on loopback only.")
@click.option("--reflection", is_flag=True, default=None, help="Offer gRPC server reflection.")
@click.option("--values", type=click.Choice(["any", "word"]), help="word refuses text with white space.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="One event a line either way.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--config", "file", metavar="FILE", help="Settings as TOML; flags and KVQL_SERVER_… go before it.")
@click.option("--print-port", is_flag=True, help="Print the port to standard output once the server answers.")
def start(file: str | None, print_port: bool, **flags: Any) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = _settings(flags, file)
    audit.start_logging(settings.log_format, settings.log_level)
    import uvloop

    from kvql_server.service import serving

    try:
        code = uvloop.run(serving.serve(settings, print_port=print_port))
    except serving.StartError as e:
        _fail(str(e), e.code)
    except config.SettingsError as e:
        _fail(str(e), 2)
    except Exception as e:
        logging.getLogger("kvql.server").exception("the server failed")
        _fail(f"the server failed: {type(e).__name__}; the log above says more", 1)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # gRPC's threads take their time to end, and hold nothing that is not on disk


@main.command("certs")
@click.option("--host", "hosts", multiple=True, help="A name or address that clients use; repeatable (localhost).")
@click.option("--out", default="certs", show_default=True, help="Folder to write to.")
@click.option("--force", is_flag=True, help="Replace what is there.")
def make_certs(hosts: tuple[str, ...], out: str, force: bool) -> None:
    """Make a certificate authority and a server certificate: ca.pem, server.pem, server.key."""
    from kvql_server import certs

    folder = Path(out)
    if (folder / certs.KEY).exists() and not force:
        _fail(f"{folder / certs.KEY} exists; --force replaces it (clients then need the new {certs.CA})", 1)
    try:
        certs.make(folder, hosts or ("localhost",))
    except (certs.CertificateError, OSError) as e:
        _fail(str(e), 1)
    click.echo(
        f"made {folder / certs.CA}, {folder / certs.CERTIFICATE}, {folder / certs.KEY}; clients need {certs.CA} only"
    )


# ── users ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@main.group("users")
def users_group() -> None:
    """The users of a stopped store."""


def _on_store(data: str | None, act: Callable[[Any], Coroutine[Any, Any, int]]) -> None:
    """Open the store of a server that does not run, act, and wait until it is durable."""
    settings = _settings({"data": data}, None)
    from kvql_server.engines import base
    from kvql_server.service import serving

    async def run() -> None:
        engine = serving.open_engine(settings, SystemClock())
        try:
            try:
                await engine.synced(await act(engine))
            finally:
                await engine.close()
        except base.EngineError as e:
            raise serving.engine_failed(e) from e

    try:
        asyncio.run(run())
    except serving.StartError as e:
        _fail(str(e), e.code)
    except users.UsersFileError as e:
        _fail(str(e), USERS)
    except Error as e:
        _fail(e.message + (f" ({e.hint})" if e.hint else ""), 1)


def _ask_password(file: str | None) -> str:
    """From a file, the environment, the terminal or a pipe; never from an argument, where others could read it."""
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as e:
            _fail(f"cannot read {file}: {e.strerror}", 1)
    if "KVQL_PASSWORD" in os.environ:
        return os.environ["KVQL_PASSWORD"]
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        _fail("the two passwords differ", 1)
    return password


_data = click.option("--data", help="Folder of the store (./data).")
_password_file = click.option("--password-file", metavar="FILE", help="Read the password from a file.")


@users_group.command("add")
@click.argument("name")
@click.option("--admin", is_flag=True, help="Make the user an administrator.")
@_password_file
@_data
def users_add(name: str, admin: bool, password_file: str | None, data: str | None) -> None:
    """Create a user."""
    password = _ask_password(password_file)
    _on_store(data, lambda engine: users.add(engine, name, password, (ADMIN,) if admin else ()))
    click.echo(f"user {name} added")


@users_group.command("passwd")
@click.argument("name")
@_password_file
@_data
def users_passwd(name: str, password_file: str | None, data: str | None) -> None:
    """Give a user another password, also when the last administrator's is lost."""
    password = _ask_password(password_file)
    _on_store(data, lambda engine: users.set_password(engine, name, password))
    click.echo(f"password of {name} changed")


@users_group.command("list")
@_data
def users_list(data: str | None) -> None:
    """Name the users and what they may."""

    async def show(engine: Any) -> int:
        for name, user in await users.listing(engine):
            click.echo(f"{name}\t{','.join(user.perms)}")
        return 0

    _on_store(data, show)


@users_group.command("sync")
@_data
def users_sync(data: str | None) -> None:
    """Apply users.json again, to users that exist (or were dropped) too."""
    path = Path(_settings({"data": data}, None).data) / "users.json"

    async def sync(engine: Any) -> int:
        listed = users.hash_in_place(path, users.read(path))
        names, revision = await users.apply(engine, listed, again=True)
        click.echo(f"applied {path} to {len(names)} users")
        return revision

    _on_store(data, sync)


for tool in (verify, backup, status):
    main.add_command(tool)


if __name__ == "__main__":
    main()
