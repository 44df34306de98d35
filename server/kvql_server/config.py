"""Settings from flags, the environment and a TOML file, in this order of precedence; unknown names are refused."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from kvql_server.settings import Settings

PREFIX: Final = "KVQL_SERVER_"
_CHOICES: Final = {
    "sync": ("always", "interval", "checkpoint"),
    "values": ("any", "word"),
    "create_namespaces": ("everyone", "administrators"),
    "log_format": ("text", "json"),
    "log_level": ("debug", "info", "warning", "error"),
    "engine": ("hashtable", "memory"),
}


class SettingsError(Exception):
    """A setting is wrong; the message names it and where it came from."""


def load(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ, file: str | None = None) -> Settings:
    """The settings; ``flags`` holds only what was given."""
    given: dict[str, Any] = {}
    if file is not None:
        given |= _from_file(Path(file))
    names = {field.name: field.type for field in fields(Settings)}
    for variable, text in environment.items():
        if variable.startswith(PREFIX):
            name = variable[len(PREFIX) :].lower()
            if name not in names:
                raise SettingsError(f"the environment variable {variable} names no setting")
            given[name] = _parse(name, names[name], text, variable)
    given |= {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        given[name] = _checked(name, names[name], value)
    return Settings(**given)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as e:
        raise SettingsError(f"cannot read the settings {path}: {e.strerror}") from None
    except tomllib.TOMLDecodeError as e:
        raise SettingsError(f"{path} is not valid TOML: {e}") from None
    known = {field.name for field in fields(Settings)}
    for name in given:
        if name not in known:
            raise SettingsError(f"{path}: there is no setting {name!r}")
    return given


def _parse(name: str, kind: Any, text: str, where: str) -> Any:
    try:
        if kind == "bool":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (KeyError, ValueError):
        raise SettingsError(f"{where}: {text!r} is no value for {name}") from None


def _checked(name: str, kind: Any, value: Any) -> Any:
    if name == "engine" and isinstance(value, str):
        value = value.rstrip(":")  # engines are named as URLs; these two have no address
    if kind.startswith("Literal"):
        kind = "str"  # its choices are checked below
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value).__name__ != kind:
        raise SettingsError(f"setting {name}: {value!r} is no {kind}")
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise SettingsError(f"setting {name} is one of {', '.join(choices)}, not {value!r}")
    if kind in ("int", "float") and value <= 0:
        raise SettingsError(f"setting {name} must be more than 0")
    return value


def address(listen: str) -> tuple[str, int]:
    """(host, port) of ``HOST:PORT`` or ``[::1]:PORT``; a Unix socket is (its path, -1)."""
    if listen.startswith("unix:"):
        return listen.removeprefix("unix:"), -1
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or not host:
        raise SettingsError(f"setting listen: {listen!r} is no HOST:PORT")
    return host.strip("[]"), int(port)


def is_loopback(host: str, port: int) -> bool:
    """Whether only this machine can reach the address."""
    if port < 0 or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
