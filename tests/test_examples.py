"""The training loops in experiments/examples run as they stand there."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "experiments" / "examples"
PAIR = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(folder: Path, *command: str) -> tuple[str, str]:
    """Run a program in a folder; return what it wrote on stdout and stderr."""
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_loop_of_a_pretraining_warns_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    command = str(EXAMPLES / "pretrain.py"), "--epsilon", "1e-3", "--out", "."
    printed, warned = run(tmp_path, *command, "--steps", "40")
    assert re.findall(r"^step (\d+): loss \d\.\d\d, damping 0\.\d\d$", printed, re.MULTILINE) == ["20", "40"]
    assert "EpsilonWarning: AdamW, step 40: ε shortens the steps of" in warned
    printed, warned = run(tmp_path, "-W", "error", *command, "--steps", "60")
    assert re.findall(r"^step (\d+)", printed, re.MULTILINE) == ["60"]
    assert "AdamW, step 60, ε = 1e-3: " in printed and re.search(r"^ε from \S+ to \S+", printed, re.MULTILINE)


def test_the_ranks_of_a_job_are_asked_together(tmp_path: Path) -> None:
    printed, warned = run(tmp_path, *PAIR, str(EXAMPLES / "ddp.py"))
    assert re.findall(r"^step (\d+): damping 0\.0\d$", printed, re.MULTILINE) == ["20", "40", "60"]
    assert len(re.findall(r"^ε from 1e-3 to 0\.1", printed, re.MULTILINE)) == 1
    assert warned.count("EpsilonWarning: Adam, step 40: ε shortens the steps of 2 of 4 layers") == 1


@pytest.mark.skipif(not importlib.util.find_spec("accelerate"), reason="accelerate not installed")
@pytest.mark.parametrize(("launcher", "steps"), [((), 64), (PAIR, 32)])
def test_the_loop_of_accelerate_is_logged(launcher: tuple[str, ...], steps: int, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    printed, _ = run(tmp_path, *launcher, str(EXAMPLES / "accelerate_loop.py"))
    assert printed.startswith(f"{steps} steps, damping 1.00\nε from 1e-3 to 0.1")
    (folder,) = (tmp_path / "runs" / "accelerate").glob("epsgrid*")
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("epsgrid/damping")] == list(range(16, steps + 1, 16))
    assert {"loss", "epsgrid/low", "epsgrid/adaptable", "epsgrid/damping_dense"} <= set(events.Tags()["scalars"])
