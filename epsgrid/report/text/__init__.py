"""TEXT: the comparison as tables for a terminal, Markdown and LaTeX alike."""
