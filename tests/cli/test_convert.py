"""`epsgrid convert`, and a precision that this machine does not compute in."""

import pytest


def test_the_result_alone_is_on_stdout(shell):
    done = shell.call("convert", "1e-8", "--from", "adam", "--to", "adabelief", "--beta2", "0.999")
    assert done.stdout == "1e-19\n"
    assert "the same in the long run" in done.stderr
    assert "adabelief: ε = 1e-19 added to v in place and outside the root" in done.stderr
    done = shell.call("convert", "1e-7", "--from", "keras", "--to", "torch", "--step", "391")
    assert float(done.stdout) == pytest.approx(1.758e-7, rel=1e-3) and "the same at step 391:" in done.stderr
    document = shell.json("convert", "1e-8", "--from", "adam", "--to", "radam", "--step", "1", "--dtype", "float16")
    assert document["to"]["radam"]["epsilon"] == pytest.approx(1e-8 * 0.001**0.5)
    assert "is 0 in float16" in document["warnings"][0]


def test_without_a_target_all_are_listed(shell):
    lines = shell.call("convert", "1e-8", "--from", "adam").stdout.splitlines()
    found = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert found["adam"] == "1e-8" and found["eadam"] == "1e-19" and found["keras-rmsprop"] == "1e-16"
    assert next(line for line in lines if line.startswith("adagrad")).split()[1:3] == ["needs", "--step"]
    lines = shell.call("convert", "1e-170", "--from", "adam", "--dtype", "float64").stdout.splitlines()
    found = {line.split()[0]: line.split()[1:4] for line in lines[1:]}
    assert found["eadam"] == ["out", "of", "range"] and found["nadam"][0] == "1e-170"
    words = shell.call("convert", "1e-170", "--from", "adam", "--to", "eadam", expect=2).stderr
    assert "epsilon 1e-170, outside the root: √v̂ + ε, has no counterpart added to v in place" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1e-8", "--from", "adma"], "unknown optimizer 'adma'; did you mean 'adam'?"),
        (["1e-8", "--from", "sgdm"], "'sgdm' has no epsilon"),
        (["0", "--from", "adam"], "epsilon must be positive and finite, got 0.0"),
        (["1e-8", "--from", "adam", "--beta2", "1.5"], "adam: beta2 1.5: Input should be less than 1"),
        (["1e-8", "--from", "adam", "--to", "adagrad"], "√Σg² grows with every step: say at which step"),
        (["1e-8", "--from", "adam", "--dtype", "int8"], "--dtype: unknown type 'int8'"),
    ],
)
def test_wrong_input_is_refused(shell, arguments, words):
    code = 4 if "sgdm" in arguments else 2
    assert words in shell.call("convert", *arguments, expect=code).stderr


@pytest.mark.parametrize("command", [("probe",), ("sweep", "--grid", "default"), ("sweep", "--grid", "default", "-n")])
def test_bfloat16_is_refused_before_anything_runs(shell, command, monkeypatch):
    """A processor without AVX-512 took ten times as long, or failed each trial of an LSTM."""
    monkeypatch.setattr("epsgrid.trials.device.computes_in_bfloat16", lambda device: False)
    shell.write()
    stage, *options = command
    setting = ("-o", "training.precision=bfloat16", "-o", "execution.device=cpu")
    refused = shell.call(stage, "spec.yaml", *options, *setting, expect=2).stderr
    assert "does not compute in it" in refused and "training.precision=float32" in refused
    assert not list(shell.folder.glob("runs/*/trials/*/failure.json"))


@pytest.mark.parametrize("executor", ["local", "inline"])
def test_a_missing_cuda_device_is_refused_before_anything_runs(shell, executor, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    shell.write()
    setting = ("-o", "execution.device=cuda", "-o", f"execution.executor={executor}")
    refused = shell.call("sweep", "spec.yaml", "--grid", "default", *setting, expect=2).stderr
    assert "torch sees no CUDA device here" in refused
    assert not list(shell.folder.glob("runs/*/trials/*/failure.json"))


def test_the_machine_is_listed_with_what_it_trains_in(shell):
    document = shell.json("list", "machine")
    assert document["devices"][0]["device"] == "cpu"
    processor = shell.run("list", "machine", ONEDNN_MAX_CPU_ISA="SSE41").stdout.splitlines()[0]
    assert f"torch {document['torch']}" in processor and processor.endswith("training.precision: float32")
