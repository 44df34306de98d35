"""``python shell`` in a checkout: the command ``kvql`` without an installation."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / "shell"), str(_ROOT / "server")]

from kvql_shell.start import main  # noqa: E402 - the path comes first

sys.exit(main())
