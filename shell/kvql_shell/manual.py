"""What ``help`` says: the comments above the statements in the grammar, and nothing that could drift from it."""

from __future__ import annotations

import textwrap
from typing import Final

from kvql._gen.help import STATEMENTS

_COLUMNS: Final = 100
_FORM_COLUMNS: Final = 96


def overview() -> str:
    """Every statement's form, one a line; a long one is cut, ``help`` with its name shows it whole."""
    lines = ["Statements (help PUT tells more about PUT):"]
    for forms, _ in STATEMENTS.values():
        lines += [f"  {_cut(form)}" for form in forms.split("\n")]
    return "\n".join(lines)


def topic(name: str) -> str | None:
    """The statements whose form starts with the words ``name``, whole; None if there are none."""
    words = name.rstrip(";").upper().split()
    found = [
        _entry(forms, text)
        for forms, text in STATEMENTS.values()
        if any(_starts(form, words) for form in forms.split("\n"))
    ]
    return "\n\n".join(found) if found else None


def first_words() -> list[str]:
    """What statements start with."""
    return list(dict.fromkeys(form.split()[0] for forms, _ in STATEMENTS.values() for form in forms.split("\n")))


def _starts(form: str, words: list[str]) -> bool:
    return form.replace("[", "").replace("]", "").split()[: len(words)] == words


def _entry(forms: str, text: str) -> str:
    shown = [textwrap.fill(form, _COLUMNS, subsequent_indent="    ") for form in forms.split("\n")]
    return "\n".join([*shown, textwrap.fill(text, _COLUMNS, initial_indent="  ", subsequent_indent="  ")])


def _cut(form: str) -> str:
    return form if len(form) <= _FORM_COLUMNS else form[: _FORM_COLUMNS - 1].rstrip() + "…"
