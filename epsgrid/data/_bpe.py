"""Byte-pair encoding by sentencepiece, so that two trainings on the same text give the same pieces and ids.

Sennrich et al. 2016 count the merges (10,000 in the published recipe); sentencepiece counts the whole vocabulary,
single characters included. The text is taken as it is: no Unicode normalisation, pieces never cross a space, and
joining the pieces of a line gives back the line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from epsgrid.data._extra import require
from epsgrid.errors import SpecError

SPACE = "▁"
"""What a piece has in place of the space before a word."""

UNKNOWN = 0
"""Id of the piece that stands for characters the training text does not have."""

_LONGEST_PIECE = 64
_LONGEST_LINE_BYTES = 1 << 24
_TOO_MANY = re.compile(r"Vocabulary size too high .*<= (\d+)")
_TOO_FEW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def train_bpe(lines: Sequence[str], vocabulary: int) -> bytes:
    """Learn byte-pair encoding from lines of text.

    Args:
        lines: the training text, none of them empty.
        vocabulary: number of pieces, single characters and the one for unknown characters included.

    Returns:
        sentencepiece's model; the same bytes whenever the arguments are the same.

    Raises:
        SpecError: so many pieces cannot be learnt from this text, or its characters alone are more; the message says
            how many can.
    """
    model = io.BytesIO()
    try:
        require("sentencepiece", "translation").SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=1.0,
            normalization_rule_name="identity",
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentencepiece_length=_LONGEST_PIECE,
            max_sentence_length=_LONGEST_LINE_BYTES,
            num_threads=1,
            unk_id=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise SpecError(_explain(vocabulary, str(error))) from error
    return model.getvalue()


def encode(model: bytes, lines: Sequence[str]) -> list[list[int]]:
    """Cut lines into pieces: a list of ids for each."""
    encoded: list[list[int]] = _processor(model).encode(list(lines))
    return encoded


def pieces(model: bytes) -> list[str]:
    """List the pieces in the order of their ids."""
    processor = _processor(model)
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def join(parts: Sequence[str]) -> str:
    """Put pieces together again.

    >>> join(["▁und", "▁augen", "licht"])
    'und augenlicht'
    """
    return "".join(parts).replace(SPACE, " ").strip()


def _processor(model: bytes) -> Any:
    return require("sentencepiece", "translation").SentencePieceProcessor(model_proto=model)


def _explain(vocabulary: int, message: str) -> str:
    """Say in the spec's words what sentencepiece refused."""
    asked = f"task.vocabulary: {vocabulary:,} pieces"
    if found := _TOO_MANY.search(message):
        return f"{asked} cannot be learnt from so little text; ask for at most {int(found[1]):,}, or give more text"
    if found := _TOO_FEW.search(message):
        return f"{asked} are fewer than the text has different characters; ask for at least {int(found[1]):,}"
    return f"{asked} could not be learnt from the training text: {message}"
