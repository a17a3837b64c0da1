"""`epsgrid demo`."""

from __future__ import annotations

from pathlib import Path

import epsgrid
from epsgrid.cli.commands import probe, report, sweep
from epsgrid.cli.console import err, hint
from epsgrid.cli.options import RUNS, QuietOption, RunsOption
from epsgrid.errors import ExitCode

_SPECS = {
    "demo": "handwritten digits: the usual case",
    "demo-nuclei": "sizes of cell nuclei in cm and cm²: squared errors so small that the default ε = 1e-8 stalls Adam",
}


def demo(runs: RunsOption = RUNS, quiet: QuietOption = False) -> ExitCode | None:
    """Probe, sweep and report twice on bundled data, a minute, to see what epsgrid is for.

    A small MLP is trained by Adam, first on handwritten digits, where the default ε is right, then on sizes of cell
    nuclei, where it stalls. Nothing is downloaded. A second call goes on where the first one ended.
    """
    for part, (name, about) in enumerate(_SPECS.items(), 1):
        spec = Path(epsgrid.__file__).parent / "specs" / f"{name}.yaml"
        err().print(f"\nPart {part} of {len(_SPECS)}, {about}", style="bold", markup=False)
        hint(f"epsgrid probe {spec}")
        probe.probe(spec, runs=runs, quiet=quiet)
        if code := sweep.sweep(spec, runs=runs, quiet=quiet):
            return code
        report.report([runs / name], quiet=quiet)
    hint(
        "\nNext: open the page of each report in a browser; then your own training:\n"
        "  epsgrid init digits   writes a commented spec to change; `epsgrid list tasks` has more than digits\n"
        "  epsgrid --help        has the commands, and epsgrid.probe(...) measures a loop of your own from Python"
    )
    return None
