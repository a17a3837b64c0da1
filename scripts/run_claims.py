"""Train the experiments that the paper's claims are judged by: every task and optimizer over both grids, until decided.

    python scripts/run_claims.py --out runs-claims                   # days on two cores; resumes exactly
    python scripts/run_claims.py --out runs-claims cnn-adam vit-adam

Each experiment is probed, swept over the narrowed and the conventional grid with three seeds (two where a training
takes more than half a minute), and then, with fresh seeds and further learning rates where they decide, until its
questions are answered or twelve fresh seeds are used.
Margins were fixed before anything was trained: a point of accuracy, and two where a model learns 30 to 45 % in the time
and scatters by more than a point. The reports: `epsgrid report runs-claims/claims-*/ --out runs-claims`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ALL = (
    *("adam", "adamw", "amsgrad", "nadam", "radam", "rmsprop", "adagrad", "adadelta", "adamax"),
    *("adabelief", "adamomentum", "eadam"),
)
NO_EPSILON = ("sgdm", "adam_atan2", "by_kind", "by_layer")
"""Compared with the others: momentum SGD, Adam-atan2, and Adam with an ε for each kind of layer or each layer."""
RATES = {
    "sgdm": (1e-2, 3e-2, 0.1),
    "adagrad": (3e-3, 1e-2, 3e-2),
    "adadelta": (0.1, 0.3, 1.0),
    "rmsprop": (3e-4, 1e-3, 3e-3),
    "alexnet-adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),  # the best of the three usual ones was the lowest for nearly all ε
    "vgg-adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "vit-adam": (1e-4, 3e-4, 1e-3, 3e-3),
    "cnn-adam": (3e-3, 1e-2, 3e-2),  # with a third of these, too, the best was at an end for most ε
    "cnn-adabelief": (3e-3, 1e-2, 3e-2),
    "cnn-rmsprop": (1e-3, 3e-3, 1e-2),
    "nuclei-sgdm": (3e3, 1e4, 3e4, 1e5),  # its gradients are near 1e-8
    "lstm-sgdm": (1.0, 3.0, 10.0),
}
FEW_IMAGES = "{name: cifar10, validation: 2000, subset: {train: 3000, validation: 2000, test: 4000}}"
FEWER_IMAGES = "{name: cifar10, validation: 2000, subset: {train: 2000, validation: 1000, test: 4000}}"
PAIRS = "{name: translation, root: iwslt14-subset, vocabulary: 2000, subset: {train: 8000, validation: 500, test: 500}}"
TRANSFORMER = (
    "{name: transformer, encoder_layers: 1, decoder_layers: 1, width: 64, ffn: 128, heads: 4, dropout: 0.1, norm: pre,"
    " key_bias: false}"
)
WORDS = "{name: ptb, sequence_length: 35, subset: {train: 100000, validation: 30000, test: 30000}}"
LSTM = "{name: lstm, embedding: 64, hidden: 64, layers: %d}"
AWD = (
    "{name: awd_lstm, embedding: 64, hidden: 128, layers: 2, weight_drop: 0.1, input_dropout: 0.1, hidden_dropout: 0.1,"
    " output_dropout: 0.1, embedding_dropout: 0.02}"
)
RECURRENT = "{epochs: 4, batch_size: 20, clip_norm: 1.0, schedule: {milestones: [0.75], factor: 0.25}}"
MORE_STEPS = RECURRENT.replace("20", "8")  # deeper ones take more steps to leave the frequencies of words behind


class Recipe(NamedTuple):
    """How one task is trained, and by which optimizers."""

    task: str
    model: str
    training: str
    margin: str
    optimizers: tuple[str, ...]
    seeds: int = 3


RECIPES = {
    "digits": Recipe("digits", "{name: mlp, hidden: [128]}", "{epochs: 8, batch_size: 32}", "1", (*ALL, *NO_EPSILON)),
    "nuclei": Recipe(
        "nuclei", "{name: mlp, hidden: [64, 64]}", "{epochs: 20, batch_size: 32}", "2", (*ALL, *NO_EPSILON)
    ),
    "digits_cnn": Recipe(
        "digits",
        "{name: cnn, channels: [8, 16]}",
        "{epochs: 8, batch_size: 32}",
        "1",
        ("adam", "adabelief", "rmsprop", "sgdm"),
    ),
    "cnn": Recipe(
        FEW_IMAGES,
        "{name: cnn, channels: [8, 16, 32]}",
        "{epochs: 20, batch_size: 128}",
        "1",
        ("adam", "adabelief", "rmsprop", *NO_EPSILON),
    ),
    "mlp": Recipe(
        FEW_IMAGES, "{name: mlp, hidden: [256, 128]}", "{epochs: 10, batch_size: 128}", "1", ("adam", "sgdm")
    ),
    "alexnet": Recipe(
        FEW_IMAGES,
        "{name: alexnet, width: 8, dropout: 0.1}",
        "{epochs: 15, batch_size: 32}",
        "2",
        ("adam", "sgdm"),
    ),
    "vgg": Recipe(
        FEW_IMAGES,
        "{name: vgg11, width: 8, dropout: 0.1}",
        "{epochs: 15, batch_size: 32}",
        "2",
        ("adam", "sgdm"),
    ),
    "resnet": Recipe(FEWER_IMAGES, "{name: resnet34, width: 8}", "{epochs: 6, batch_size: 32}", "2", ("adam", "sgdm")),
    "densenet": Recipe(
        FEWER_IMAGES, "{name: densenet121, growth: 4}", "{epochs: 5, batch_size: 64}", "2", ("adam",), 2
    ),
    "vit": Recipe(
        FEW_IMAGES,
        "{name: vit, patch: 4, width: 48, depth: 2, heads: 2, dropout: 0.0}",
        "{epochs: 12, batch_size: 64}",
        "2",
        ("adam",),
    ),
    "iwslt": Recipe(
        PAIRS,
        TRANSFORMER,
        "{epochs: 6, batch_size: 1024, schedule: {kind: inverse_sqrt, warmup_steps: 100}}",
        "2 %",
        ("adamw", "rmsprop"),
        2,
    ),
    "lstm": Recipe(WORDS, LSTM % 1, RECURRENT, "2 %", ("adam", "adabelief", "sgdm")),
    "lstm2": Recipe(WORDS, LSTM % 2, MORE_STEPS, "2 %", ("adam",), 2),
    "lstm3": Recipe(WORDS, LSTM % 3, MORE_STEPS, "2 %", ("adam",), 2),
    "awd": Recipe(WORDS, AWD, RECURRENT, "2 %", ("adam",), 2),
}
UNTIL_DECIDED = ["--extend-rates", "--until-decided", "--max-seeds", "12"]
NAMES = [f"{task}-{optimizer}" for task, recipe in RECIPES.items() for optimizer in recipe.optimizers]


def spec(name: str, out: Path) -> str:
    """Return the spec of an experiment, such as "cnn-adam"; bounds of others are in the folder `out`."""
    task, optimizer = name.split("-")
    recipe, own = RECIPES[task], optimizer
    if name == "iwslt-adamw":
        own = "{name: adamw, betas: [0.9, 0.98], weight_decay: 1e-4}"
    elif optimizer.startswith("by_"):
        bounds = (out / f"claims-{task}-adam" / "bounds.json").as_posix()
        own = f'{{name: "adam_by_group:{optimizer.upper()}", bounds: {bounds}}}'
    rates = RATES.get(name, RATES.get(optimizer, (1e-3, 3e-3, 1e-2)))
    if task == "nuclei" and optimizer not in NO_EPSILON:  # with three, the best was at an end for nearly all ε
        rates = (*(rate / 10 for rate in rates[:2]), *rates, *(rate * 10 for rate in rates[1:]))
    seeds = [*range(recipe.seeds)]
    if optimizer in NO_EPSILON:
        seeds += range(10_000, 10_006)  # of those that the others may get to be decided
    mode = "fixed" if optimizer in NO_EPSILON else "effective"  # a large ε makes the step lr/ε: fair at its own rates
    return f"""\
experiment: claims-{name}
task: {recipe.task}
model: {recipe.model}
optimizer: {own}
training: {recipe.training}
probe: {{seeds: 2}}
sweep: {{grid: both, learning_rates: [{", ".join(f"{rate:g}" for rate in rates)}], lr_mode: {mode}, seeds: {seeds}}}
report: {{margin: {recipe.margin}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TASK-OPTIMIZER", help=f"some of {', '.join(NAMES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs-claims"))
    parser.add_argument("--workers", type=int, default=None, help="trials at once; default: one per core")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no such experiment: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    workers = [] if options.workers is None else ["--workers", str(options.workers)]
    for name in options.names or NAMES:
        path = options.out / f"{name}.yaml"
        path.write_text(spec(name, options.out))
        run = [str(path), "--runs", str(options.out)]
        epsgrid = [sys.executable, "-m", "epsgrid"]
        has_epsilon = name.partition("-")[2] not in NO_EPSILON
        if has_epsilon:
            subprocess.run([*epsgrid, "probe", *run], check=True)
        subprocess.run([*epsgrid, "sweep", *run, *workers], check=True)
        further = UNTIL_DECIDED if has_epsilon else ["--extend-rates"]
        subprocess.run([*epsgrid, "sweep", *run, *workers, *further], check=True)


if __name__ == "__main__":
    main()
