"""Write every named character of Python's ``unicodedata`` as a KVQL script: ``PUT U+0041 'LATIN CAPITAL LETTER A'``.

    python examples/make_unicode.py examples/unicode.kvql [--namespace unicode]

With Python 3.11 (Unicode 14) that is 138,552 statements. Keys sort by code point within a number of digits; values hold
spaces, so they are quoted.
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path


def pairs() -> Iterator[tuple[str, str]]:
    """Key and value of every named character, in code point order."""
    for code in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(code), None)
        if name is not None:
            yield f"U+{code:04X}", name


def script(namespace: str) -> Iterator[str]:
    """The lines of the script; no name holds a quote, so none needs escaping."""
    yield f"-- the named characters of Unicode {unicodedata.unidata_version}\n"
    yield f"USE {namespace};\n"
    for key, name in pairs():
        yield f"PUT {key} '{name}';\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="write every named character of Unicode as a KVQL script")
    parser.add_argument("file", type=Path)
    parser.add_argument("--namespace", default="unicode")
    arguments = parser.parse_args()
    with arguments.file.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(script(arguments.namespace))


if __name__ == "__main__":
    main()
