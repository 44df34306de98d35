"""Where the shell connects, and with what password: flag > environment > file.

The file is TOML (``KVQL_CONFIG``, else ``config.toml`` in the user's configuration folder) and never rewritten by the
program::

    url = "kvql://ann@localhost:7443/shop"
    ca = "certs/ca.pem"
    password = "…"          # only if nobody else may read the file (mode 0600)
    format = "table"
    pager = "less -S"

Nothing is imported for it unless the file exists: one-shot commands start fast.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kvql import errors
from kvql_shell.exits import Misuse

if TYPE_CHECKING:
    from kvql.transport.target import Target as Place

MEMORY: Final = ":memory:"
_KNOWN: Final = ("url", "ca", "password", "format", "pager")


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says; None where it says nothing."""

    url: str | None = None
    ca: str | None = None
    password: str | None = None
    format: str | None = None
    pager: str | None = None


class ConfigError(Misuse):
    """The file cannot be used; the text says why, for people."""


def config_path(environ: Mapping[str, str]) -> Path:
    """The file's place, whether it exists or not."""
    named = environ.get("KVQL_CONFIG")
    if named:
        return Path(named)
    if os.name == "posix" and "XDG_CONFIG_HOME" not in environ and Path("/proc").exists():
        return Path.home() / ".config" / "kvql" / "config.toml"  # what platformdirs says on Linux, without its import
    import platformdirs

    return Path(platformdirs.user_config_path("kvql")) / "config.toml"


def load(environ: Mapping[str, str]) -> Config:
    """The file's content; nothing at all if there is no file, unless KVQL_CONFIG names it."""
    path = config_path(environ)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read()
    except FileNotFoundError:
        if environ.get("KVQL_CONFIG"):
            raise ConfigError(f"{path}: no such file") from None
        return Config()
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from None
    import tomllib

    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from None
    for name, value in content.items():
        if name not in _KNOWN:
            raise ConfigError(f"{path}: unknown setting '{name}'; known are {', '.join(_KNOWN)}")
        if not isinstance(value, str):
            raise ConfigError(f"{path}: '{name}' must be text")
    if "password" in content and os.name == "posix" and mode & 0o077:
        raise ConfigError(f"{path} holds a password and may be read by others; run: chmod 600 {path}")
    return Config(**content)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect. ``named`` is False for the store in memory that is taken when nothing was said."""

    text: str
    named: bool = True

    @property
    def place(self) -> Place:
        """What the text means; 08001 if it means nothing."""
        from kvql.transport.target import parse_target

        return parse_target(self.text)

    @property
    def is_new(self) -> bool:
        """A folder that is not there, and will be made: or a name that was meant otherwise."""
        return self.place.kind == "folder" and not os.path.exists(os.path.expanduser(self.place.place))

    @property
    def holds_password(self) -> bool:
        """A password in the URL, where every user of the machine may see it."""
        return self.place.password is not None


def target(argument: str | None, environ: Mapping[str, str], config: Config) -> Target:
    """The argument, KVQL_URL, the file's ``url``, or ``:memory:``."""
    text = argument or environ.get("KVQL_URL") or config.url
    return Target(text) if text else Target(MEMORY, named=False)


def password_file(path: str) -> str:
    """The first line of a file with a password; refused if others may read it."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigError(f"{path} may be read by others; run: chmod 600 {path}")
            return file.readline().rstrip("\r\n")
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None


def password(file: str | None, argument: str | None, environ: Mapping[str, str], config: Config) -> str | None:
    """The password from wherever it was given; None if it has to be asked for."""
    if file is not None:
        return password_file(file)
    if argument is not None:
        return argument
    return environ.get("KVQL_PASSWORD", config.password)


def ask_password(user: str | None) -> str:
    """Ask on the terminal, without echo; 28P01 if there is none to ask on."""
    import getpass
    import sys

    if not sys.stdin.isatty():
        raise errors.error(
            errors.LOGIN_FAILED,
            "no password given",
            hint="set KVQL_PASSWORD, use --password-file FILE, or put it into the configuration file",
        )
    return getpass.getpass(f"password for {user}: " if user else "password: ")
