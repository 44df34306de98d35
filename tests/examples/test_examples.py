"""Real data on the whole road: ``kvql run`` over TLS, SIGKILL, start again, and every pair is there."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.golden.harness import KVQL
from tests.servers import Server

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(server: Server, path: Path) -> str:
    done = subprocess.run(
        [str(KVQL), "run", str(path), server.url, *server.options],
        capture_output=True, env=server.environment, timeout=300, check=False,
    )  # fmt: skip
    text = done.stderr.decode()
    assert done.returncode == 0, text
    return text


@pytest.mark.slow
def test_both_examples_survive_a_kill(server: Server, tmp_path: Path) -> None:
    unicode, manifest = example("make_unicode"), example("make_manifest")
    folder = manifest.library_folder("pygments")
    names, files = dict(unicode.pairs()), manifest.pairs(folder)
    for module, arguments in ((unicode, ("unicode",)), (manifest, (folder, "manifest"))):
        path = tmp_path / f"{module.__name__}.kvql"
        path.write_text("".join(module.script(*arguments)), encoding="utf-8")
        load(server, path)

    server.kill()
    server.start()

    with server.connect("unicode") as connection:
        assert dict(connection.execute("SHOW DATA").fetchall()) == names
        assert connection.execute("COUNT").fetchall() == [(len(names),)]
        assert connection.execute("GET U+0041").fetchall() == [("U+0041", "LATIN CAPITAL LETTER A")]
        (keys,) = zip(*connection.execute("SHOW KEYS").fetchall(), strict=True)
        assert list(keys) == sorted(names)
    with server.connect("manifest") as connection:
        assert dict(connection.execute("SHOW DATA").fetchall()) == files


def test_the_unicode_script_has_a_statement_a_character() -> None:
    unicode = example("make_unicode")
    lines = list(unicode.script("unicode"))
    assert sum(line.startswith("PUT ") for line in lines) == len(dict(unicode.pairs()))
    assert "PUT U+0041 'LATIN CAPITAL LETTER A';\n" in lines
    # the figure that the documents quote is that of Python 3.11's Unicode 14
    if unicode.unicodedata.unidata_version == "14.0.0":
        assert len(lines) - 2 == 138_552


def test_the_manifest_lists_contents_once(tmp_path: Path) -> None:
    manifest = example("make_manifest")
    library = tmp_path / "library"
    library.mkdir()
    for name, content in (("a.py", "same"), ("b.py", "same"), ("c.txt", "other")):
        (library / name).write_text(content)
    pairs = manifest.pairs(library)
    assert [entry["path"] for entry in pairs.values()] == ["library/a.py", "library/c.txt"]
    assert next(iter(pairs.values()))["paths"] == ["library/a.py", "library/b.py"]
