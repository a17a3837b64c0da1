"""`epsgrid show SPEC`."""

from __future__ import annotations

import sys

from epsgrid.cli.options import JsonOption, OverrideOption, SpecArgument


def show(spec: SpecArgument, override: OverrideOption = None, json: JsonOption = False) -> None:
    """Print the effective spec: every default filled in, every override applied."""
    from epsgrid.cli.console import print_json
    from epsgrid.spec import load_spec, spec_to_yaml

    loaded = load_spec(spec, override or ())
    if json:
        print_json({"version": 1, "spec": loaded.model_dump(mode="json")})
    else:
        sys.stdout.write(spec_to_yaml(loaded))
