"""THE FLOW: probe, sweep, report. One file per command, each readable in a minute."""
