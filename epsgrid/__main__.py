"""`python -m epsgrid` and the `epsgrid` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    try:
        from epsgrid.cli.app import run
    except KeyboardInterrupt:  # before the command line is there to take it
        raise SystemExit(130) from None
    raise SystemExit(run())


if __name__ == "__main__":
    main()
