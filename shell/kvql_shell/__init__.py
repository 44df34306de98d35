"""The shell and the scripts of KVQL; a client like any other.

One ``kvql -c 'GET k'``: ``main`` reads the command line, ``config`` finds target and password, ``session`` connects,
``sources`` opens the text, ``script`` takes statement by statement from ``kvql.parser`` to the client, ``output`` and
``render`` show what comes back, and ``exits`` turns the first error into an exit code. Of a file that is sent ahead,
``flight`` knows what is on its way, and ``places`` which line an offset is on.

At a prompt, ``repl`` edits (``highlight``, ``completion``, ``history``), ``commands`` runs what was entered: statements
through ``script``, or the shell's own commands.
"""
