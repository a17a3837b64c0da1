"""Watch the ε of AdamW in a plain loop, in the style of a GPT pre-training script: a small one, on the source of torch.

    python experiments/examples/pretrain.py --epsilon 1e-8
    python experiments/examples/pretrain.py --epsilon 1e-3 --out runs/gpt     # ε is too large: the alarm goes
    python experiments/examples/pretrain.py --epsilon 1e-3 --out runs/gpt --steps 240     # goes on from the checkpoint

Gradient accumulation, clipping, a cosine schedule with warm-up, autocast to bfloat16, two parameter groups and
checkpoints stay as they are; what epsgrid needs are the lines marked with "epsgrid".
"""

from __future__ import annotations

import argparse
import inspect
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import epsgrid

CONTEXT, WIDTH, HEADS, DEPTH, VOCABULARY = 64, 64, 4, 2, 256
BATCH, ACCUMULATE, WARMUP, LEARNING_RATE = 8, 2, 20, 3e-3


class Block(nn.Module):
    """Causal self-attention, then two dense layers, each on normalised input and added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, time, width)
        """Return the next layer's input, of the same shape."""
        queries, keys, values = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    """Predicts the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (batch, time) -> (batch, time, vocabulary)
        """Return the logits of the byte after each."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def learning_rate(step: int, steps: int) -> float:
    """Return the rate of a step: a linear warm-up, then a cosine down to a tenth."""
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    return LEARNING_RATE * (0.55 + 0.45 * math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def main() -> None:
    """Train, or go on training from a checkpoint in `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", type=float, default=1e-8)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--out", type=Path, help="folder of the checkpoint")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    data = torch.frombuffer(bytearray(inspect.getsource(F).encode()), dtype=torch.uint8).long()
    model = Gpt()
    groups = [
        {"params": [each for each in model.parameters() if each.ndim >= 2], "weight_decay": 0.1},
        {"params": [each for each in model.parameters() if each.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95), eps=arguments.epsilon)
    observer = epsgrid.observe(optimizer, model=model, alarm=True)  # epsgrid: warns where ε shortens the steps

    first, checkpoint = 0, arguments.out and arguments.out / "checkpoint.pt"
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = observer.step = saved["step"]  # epsgrid: count on from there

    for step in range(first, arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps)
        for _ in range(ACCUMULATE):
            starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,))
            text = torch.stack([data[start : start + CONTEXT + 1] for start in starts])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(text[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()) / ACCUMULATE
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 20 == 0:
            damping = observer.diagnosis().damping  # epsgrid: or .by_kind, or str() of the diagnosis for a screen
            print(f"step {step + 1}: loss {loss.item() * ACCUMULATE:.2f}, damping {damping.mean:.2f}", flush=True)

    if checkpoint:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": arguments.steps}
        torch.save(saved, checkpoint)
    observer.close()  # epsgrid: it still answers
    print(observer.bounds())
    print(observer.diagnosis())


if __name__ == "__main__":
    main()
