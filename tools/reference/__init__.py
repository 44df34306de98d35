"""How ``docs/reference/`` is made, in order of control flow.

``statements`` reads the doc comments and section headings of the grammar: which statements there are, and where each
stands. ``syntax`` turns a rule into ``nodes``, and ``diagrams`` draws them. ``examples`` runs the scripts
of ``docs/reference/examples`` in memory and takes down what a person would see. ``pages`` puts these together;
``tables`` writes the pages of functions, types and errors, whose sentences lie in ``docs/reference/*.toml`` and whose
results are computed as well. ``make_reference.py`` writes the files or compares them.
"""
