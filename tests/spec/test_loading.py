from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import epsgrid
from epsgrid.errors import ExitCode, SpecError
from epsgrid.spec.loading import load_spec, parse_spec, spec_from_json
from tests.spec.fakes import MINIMAL

ROOT = Path(epsgrid.__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spec.yaml"


def test_a_file_and_its_text_give_equal_specs(path: Path) -> None:
    path.write_text(MINIMAL)
    assert load_spec(path) == load_spec(str(path)) == parse_spec(MINIMAL)
    assert load_spec(path, ["training.epochs=2"]).training.epochs == 2


@pytest.mark.parametrize("before", ["\ufeff", "# ε stands for itself\n", "---\n"])
def test_what_may_stand_before_a_spec(path: Path, before: str) -> None:
    for ends in ("\n", "\r\n"):
        path.write_bytes((before + MINIMAL).replace("\n", ends).encode())
        assert load_spec(path) == parse_spec(MINIMAL)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"spec\.yaml: cannot read the spec: No such file or directory"),
        ("a: 1\nb: größe".encode("latin-1"), r"spec\.yaml: not UTF-8 \(byte 0x.. in line 2\); save it as UTF-8"),
        (b"a: 1\n\xff\xfeb", r"spec\.yaml: not UTF-8 \(byte 0x.. in line 2\); save it as UTF-8"),
    ],
    ids=["missing", "latin-1", "utf-16"],
)
def test_a_file_that_cannot_be_read(path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(path)
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(SpecError, match=f"{path.parent}: cannot read the spec: Is a directory"):
        load_spec(path.parent)


def test_a_stored_spec_comes_back() -> None:
    spec = parse_spec(
        MINIMAL, overrides=["model.layers=[{width: 3}]", "task.root=/data", "sweep.learning_rates=[1e-3, 0.1]"]
    )
    stored = json.loads(json.dumps(spec.model_dump(mode="json")))
    stored["execution"]["keep_checkpoints"] = True  # a key of earlier versions
    assert spec_from_json(stored, "experiment.json") == spec
    assert stored["execution"]["keep_checkpoints"], "what was given is left as it is"


def test_a_stored_spec_that_is_none() -> None:
    stored = {**parse_spec(MINIMAL).model_dump(mode="json"), "training": {"epoch": 3}}
    with pytest.raises(SpecError, match=r"^experiment\.json: training\.epoch: unknown key; did you mean 'epochs'\?"):
        spec_from_json(stored, "experiment.json")


def test_loading_leaves_torch_alone(path: Path) -> None:
    path.write_text("{experiment: demo, task: cifar10, model: vgg11, optimizer: adam, sweep: {learning_rates: [1e-3]}}")
    program = (
        "import sys; from epsgrid.spec.loading import load_spec; from epsgrid.spec.writing import spec_to_yaml;"
        "spec_to_yaml(load_spec(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=True)
