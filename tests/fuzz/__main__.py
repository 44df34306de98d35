"""``python -m tests.fuzz N [--seed S]``."""

import sys

from tests.fuzz.driver import main

sys.exit(main(sys.argv[1:]))
