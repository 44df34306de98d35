"""The exit code, standard output and standard error of every kind of outcome, in real processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import WAIT_S

Kvql = Callable[..., subprocess.CompletedProcess[str]]
Environ = Callable[..., dict[str, str]]
MODULES_MAX = 450
"""Of what a start may import: 388 with Python 3.11; gRPC or prompt_toolkit would be more than a hundred each."""


def test_fine(kvql: Kvql) -> None:
    done = kvql(":memory:", "-c", "PUT a 1; GET a")
    assert (done.returncode, done.stdout, done.stderr) == (0, "key\tvalue\na\t1\n", "")


def test_commands_and_files_in_the_order_of_the_command_line(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_text("PUT a 1;\nGET a;\n")
    done = kvql(":memory:", "-c", "COUNT", "-f", "a.kvql", "-c", "COUNT", "--no-header")
    assert (done.returncode, done.stdout) == (0, "0\na\t1\n1\n")


@pytest.mark.parametrize(
    "arguments", [("--nonsense",), ("--format", "xml"), ("a", "b"), ("run",), (":memory:", "run", "x")]
)
def test_usage(kvql: Kvql, arguments: tuple[str, ...]) -> None:
    done = kvql(*arguments)
    assert done.returncode == 1
    assert "usage: kvql" in done.stderr


def test_a_subcommand_that_is_no_first_word(kvql: Kvql) -> None:
    done = kvql("--continue", "run")
    assert done.returncode == 1
    assert "must be the first word" in done.stderr


@pytest.mark.parametrize("name", ["missing.kvql", "."])
def test_a_file_that_is_not_there_or_a_folder(kvql: Kvql, name: str) -> None:
    for arguments in (("run", name, ":memory:"), (":memory:", "-c", "PUT a 1", "-f", name), ("check", name)):
        done = kvql(*arguments)
        assert done.returncode == 1
        assert name in done.stderr
        assert done.stdout == ""


def test_a_target_where_the_file_should_stand(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_text("PUT a 1;")
    (tmp_path / "store").mkdir()
    for target in ("kvql://ann@localhost/shop", "kvql+unix:///k.sock", "kvql+file:store", ":memory:", "store"):
        done = kvql("run", target, "a.kvql")
        assert (done.returncode, done.stdout) == (1, "")
        wanted = f"kvql: {target} is a target, and the file comes first: kvql run a.kvql {target}\n"
        assert done.stderr == wanted
    alone = kvql("run", "kvql://ann@localhost/shop")
    assert "the file comes first: kvql run FILE kvql://ann@localhost/shop\n" in alone.stderr
    for scheme in ("kvql", "kvql+unix"):
        secret = kvql("run", f"{scheme}://ann:hush@localhost/shop", "a.kvql")
        assert secret.returncode == 1 and "hush" not in secret.stderr, "never a password in a message"


def test_a_file_where_a_folder_should_stand(kvql: Kvql, tmp_path: Path) -> None:
    (tmp_path / "a.kvql").write_text("PUT a 1;")
    for arguments in (("a.kvql",), ("a.kvql", "-c", "COUNT"), ("run", "a.kvql", "a.kvql"), ("ping", "a.kvql")):
        done = kvql(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "kvql: a.kvql is a file; to carry out its statements: kvql run a.kvql TARGET\n"


def test_help_tells_the_exit_codes(kvql: Kvql) -> None:
    for arguments in (("--help",), ("run", "--help"), ("ping", "--help")):
        done = kvql(*arguments)
        assert done.returncode == 0
        assert "130 interrupted" in " ".join(done.stdout.split())
        assert "\x1b" not in done.stdout


def test_version(kvql: Kvql) -> None:
    assert kvql("--version").stdout.startswith("kvql 0.")


def test_no_server(kvql: Kvql) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = kvql(f"kvql://ann@localhost:{port}/shop", "-c", "COUNT", env={"KVQL_PASSWORD": "x"})
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR 08001: ")


def test_no_password_and_nobody_to_ask(kvql: Kvql) -> None:
    done = kvql("kvql://ann@localhost:1/shop", "-c", "COUNT")
    assert done.returncode == 2
    assert "no password given" in done.stderr
    assert "KVQL_PASSWORD" in done.stderr


def test_a_password_in_argv_is_warned_of(kvql: Kvql) -> None:
    flags = ("--username", "ann", "--password", "x")
    for arguments in (("kvql://ann:x@localhost:1/s",), ("kvql://localhost:1/s", *flags)):
        done = kvql(*arguments, "-c", "COUNT")
        assert done.returncode == 2
        assert "WARNING: a password on the command line can be seen" in done.stderr


def test_the_default_target_is_told(kvql: Kvql) -> None:
    done = kvql("-c", "COUNT")
    assert done.returncode == 0
    assert done.stderr.startswith("NOTICE: no target given: a store in memory")


def test_a_statement_failed(kvql: Kvql) -> None:
    done = kvql(":memory:", "-c", "PUT a 1; PUT a 2; PUT b 1", "-c", "COUNT")
    assert done.returncode == 3
    assert done.stderr.startswith("ERROR 23505: key already exists")
    assert done.stdout == ""


def test_syntax(kvql: Kvql) -> None:
    done = kvql(":memory:", "-c", "PUT a 1; SELCT key; GET a")
    assert done.returncode == 4
    assert done.stderr.splitlines()[0].startswith("ERROR 42601: syntax error at or near")
    assert "^^^^^" in done.stderr
    assert done.stdout == ""


def test_conflict(kvql: Kvql) -> None:
    """A real 40001 needs two sessions; which code it gets is checked on the mapping."""
    from kvql_shell import exits

    from kvql import errors

    assert exits.code(errors.error(errors.CONFLICT, "x")) == 5


def test_continue_goes_on_and_still_fails(kvql: Kvql) -> None:
    done = kvql(":memory:", "--continue", "-c", "PUT a 1; PUT a 2; PUT b 1; COUNT", "-c", "GET a")
    assert done.returncode == 3
    assert done.stdout == "count\n2\nkey\tvalue\na\t1\n"
    done = kvql(":memory:", "--continue", "-c", "SELCT; COUNT; GET a")
    assert done.returncode == 4
    assert done.stdout == "count\n0\n"


def test_standard_input_is_run_statement_by_statement(kvql: Kvql) -> None:
    done = kvql(":memory:", input="PUT a 1;\nGET a;\n\n  PUT a 2;\nGET a;\n")
    assert done.returncode == 3
    assert done.stdout == "key\tvalue\na\t1\n"
    assert done.stderr.startswith("ERROR 23505 at stdin:4:")


def test_standard_input_answers_before_it_ends(environ: Environ) -> None:
    """A program may wait for the answer before it sends the next statement."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvql_shell.main", ":memory:"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environ(), text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("COUNT;\n")
    assert [process.stdout.readline(), process.stdout.readline()] == ["count\n", "0\n"]
    process.stdin.write("PUT a 1; COUNT;\n")
    assert [process.stdout.readline(), process.stdout.readline()] == ["count\n", "1\n"]
    process.stdin.close()
    assert process.wait(WAIT_S) == 0


def test_no_escape_sequences_and_no_prompt_toolkit_in_a_pipe(kvql: Kvql) -> None:
    done = kvql(":memory:", "-c", "PUT a e'\\u001b[31m'; GET a; GET b", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "\x1b[0m" not in done.stdout + done.stderr
    assert "prompt_toolkit" not in done.stderr
    assert "kvql_shell.script" in done.stderr


def test_what_the_c_path_imports(environ: Environ) -> None:
    code = (
        "import sys; from kvql_shell.main import main; main([':memory:', '-c', 'COUNT']);"
        "print([m for m in ('prompt_toolkit', 'pygments', 'platformdirs', 'rich', 'wcwidth') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ(), timeout=60)
    assert done.stdout == "count\n0\n[]\n"


def test_the_reader_went_away(tmp_path: Path, environ: Environ) -> None:
    script = tmp_path / "many.kvql"
    script.write_text("".join(f"PUT k{i} {'x' * 200};\n" for i in range(3000)) + "SHOW DATA;\n")
    command = f"{sys.executable} -m kvql_shell.main :memory: -f {script} | head -n 2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environ(), timeout=60)
    assert done.returncode == 141
    assert done.stdout.startswith("key\tvalue\n")
    assert done.stderr == ""


def test_interrupted(tmp_path: Path, environ: Environ) -> None:
    """SIGINT during a long answer: it stops, with the sentence and the code of an interrupt."""
    script = tmp_path / "many.kvql"
    script.write_text("".join(f"PUT k{i} {'x' * 500};\n" for i in range(3000)) + "SHOW DATA;\n" * 1000)
    process = subprocess.Popen(
        [sys.executable, "-m", "kvql_shell.main", ":memory:", "-f", str(script)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environ(),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(100_000)
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert b"57014" in stderr
    assert len(rest) < 300 << 20, "of a gigabyte and a half"


def test_json_of_several_statements(kvql: Kvql) -> None:
    done = kvql(":memory:", "--format", "jsonl", "-c", 'PUT a {"x": [1]}; GET a; HAS a, b')
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"key": "a", "value": {"x": [1]}}, {"key": "a", "exists": True}, {"key": "b", "exists": False},
    ]  # fmt: skip


def test_what_format_kvql_prints_rebuilds_the_pairs(kvql: Kvql) -> None:
    script = "PUT a 1, n (NULL), f (1e3), b (x'1fff'), t ('5'), d 1.50, s 'it''s; two', j {\"a\": [1, null]};"
    first = kvql(":memory:", "--format", "kvql", "-c", script, "-c", "SHOW DATA")
    assert first.returncode == 0, first.stderr
    second = kvql(":memory:", "--format", "kvql", "-c", first.stdout + first.stdout, "-c", "SHOW DATA")
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout


def test_messages_in_a_table(kvql: Kvql) -> None:
    done = kvql(
        ":memory:", "--format", "table", "-c",
        "PUT a 1; PUT b 2, c 3; UPDATE a 5; UPSERT a 6; EXPIRE a 60s; PERSIST a; DELETE b, c;"
        "BEGIN; COMMIT; BEGIN; ROLLBACK; CREATE NAMESPACE shop; USE shop; DROP NAMESPACE shop",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "1 pair put\n2 pairs put\n1 pair updated\n1 pair upserted\ntime to live set\ntime to live removed\n"
        " key | value\n-----+-------\n b   |     2\n c   |     3\n(2 rows deleted)\n"
        "transaction begun\ntransaction committed\ntransaction begun\ntransaction rolled back\n"
        "namespace shop created\nusing namespace shop\nnamespace shop dropped\n"
    )


def test_a_start_imports_little(environ: Environ) -> None:
    """What a start costs is what it imports, and that is the same on every machine; the bench has the time."""
    code = (
        "import sys; before = len(sys.modules); from kvql_shell.main import main; main([':memory:', '-c', 'COUNT']);"
        "print(len(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environ(), timeout=WAIT_S
    )
    assert int(done.stdout.split()[-1]) < MODULES_MAX
