"""``python shell`` in a checkout: the command ``kvql`` without an installation."""

import sys
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / "shell"), str(_ROOT / "server")]

sys.exit(import_module("kvql_shell.start").main())
