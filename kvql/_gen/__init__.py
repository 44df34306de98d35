"""Generated from the grammar: committed, never edited, checked for drift."""
