"""``python server`` starts the command without an installation; see ``kvql_server.main``."""

from kvql_server.main import main

main()
