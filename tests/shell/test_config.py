"""Flag before environment before file; a password file that others may read is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from kvql_shell import config
from kvql_shell.config import Config, ConfigError, Target


def write(path: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    path.write_text(text)
    path.chmod(mode)
    return {"KVQL_CONFIG": str(path)}


def test_order_of_targets() -> None:
    settings = Config(url="from-file")
    assert config.target("given", {"KVQL_URL": "from-env"}, settings) == Target("given")
    assert config.target(None, {"KVQL_URL": "from-env"}, settings) == Target("from-env")
    assert config.target(None, {}, settings) == Target("from-file")
    assert config.target(None, {}, Config()) == Target(":memory:", named=False)


def test_order_of_passwords(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret, "from-file\n")
    environ = {"KVQL_PASSWORD": "from-env"}
    settings = Config(password="from-config")
    assert config.password(str(secret), "from-argv", environ, settings) == "from-file"
    assert config.password(None, "from-argv", environ, settings) == "from-argv"
    assert config.password(None, None, environ, settings) == "from-env"
    assert config.password(None, None, {}, settings) == "from-config"
    assert config.password(None, None, {}, Config()) is None


def test_a_good_file(tmp_path: Path) -> None:
    environ = write(tmp_path / "c.toml", 'url = "kvql://ann@h/s"\npassword = "p"\nformat = "json"\n')
    assert config.load(environ) == Config(url="kvql://ann@h/s", password="p", format="json")


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ('password = "p"', 0o644, "chmod 600"),
        ("url = ", 0o600, "not valid TOML"),
        ('colour = "red"', 0o600, "unknown setting 'colour'"),
        ("url = 5", 0o600, "must be text"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, mode: int, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config.load(write(tmp_path / "c.toml", text, mode))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load({"KVQL_CONFIG": str(tmp_path / "none.toml")})


def test_a_password_file_for_everybody_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret, "p", 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        config.password_file(str(secret))


@pytest.mark.parametrize(
    ("text", "holds"),
    [("kvql://a:b@h/n", True), ("kvql://a@h:7443/n", False), ("a:b@c", False), ("kvql://h/a:b@c", False)],
)
def test_a_password_in_a_url_is_noticed(text: str, holds: bool) -> None:
    assert Target(text).holds_password is holds
