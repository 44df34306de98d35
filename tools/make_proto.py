"""Generate kvql/v1 from proto/kvql/v1/kvql.proto: messages, gRPC stubs and their types.

``--check`` generates into a temporary folder and fails where the committed files differ. The output carries no date, so
the same tools always write the same bytes; their versions are pinned in pyproject.toml for that reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto/kvql/v1/kvql.proto"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(out: Path) -> dict[str, bytes]:
    """Run protoc into ``out`` and return the generated files by their path relative to the project."""
    # protoc finds mypy-protobuf's plugins beside the interpreter that runs this
    scripts = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        str(SOURCE),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")
    names = [f"kvql/v1/kvql{suffix}" for suffix in SUFFIXES]
    return {name: (out / name).read_bytes() for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 where the committed files differ")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        made = generate(Path(folder))
    stale = [name for name, text in made.items() if not (ROOT / name).exists() or (ROOT / name).read_bytes() != text]
    if check:
        if stale:
            sys.exit(f"generated code differs from {SOURCE.relative_to(ROOT)}: {', '.join(stale)}; run: make proto")
        return
    for name in stale:
        (ROOT / name).write_bytes(made[name])
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
