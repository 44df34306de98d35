"""What an operator does with a store's folder from outside: ``kvql-server verify``, ``backup``, ``status``.

``commands`` are the three commands and what they print. ``examine`` reads a whole folder and changes nothing: MANIFEST
itself, the checkpoint through ``check_checkpoint``, the log through ``check_log``; ``sequence`` and ``values`` know
what a store writes. What is wrong becomes ``findings``, each with what a start would do about it. ``repair`` turns an
examination into a plan and carries it out, ``rebuild`` finds a MANIFEST that fits the other files. ``backup`` copies a
committed prefix while another process writes, and examines the copy. ``status`` reads what is cheap. ``content`` is the
hash over the pairs, the same for every engine; ``contents`` takes it of a folder.

All of it reads the bytes that ``docs/format/`` describes, with the engine's own readers; none of it opens a store.
"""
