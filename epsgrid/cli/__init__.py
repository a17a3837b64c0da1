"""TYPER AND RICH LIVE HERE and nowhere else: arguments, progress, tables, exit codes."""
