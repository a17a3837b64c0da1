"""`python -m epsgrid` and the `epsgrid` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from epsgrid.cli.app import run

    raise SystemExit(run())


if __name__ == "__main__":
    main()
