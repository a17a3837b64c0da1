"""BLEU by sacrebleu, on tokenised and on plain text, with the signatures that say how it was computed.

The published figures of IWSLT14 compare tokenised, lower-cased text: `tok:none`. sacrebleu's own tokenisation, `13a`,
is for plain text: both sides are detokenised by sacremoses for it, in lower case. Both scales are 0 to 100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from epsgrid.extras import require

TOKENISED, PLAIN = "bleu", "bleu_13a"


def bleu_scores(translations: Sequence[str], references: Sequence[str], language: str) -> dict[str, float]:
    """Score tokenised translations, of which an empty one has no words, against one reference each.

    Returns "bleu" of the tokenised and "bleu_13a" of the text that is detokenised as its `language` asks.
    """
    plain = _detokenizer(language)
    return {
        TOKENISED: _score(_metric("none"), translations, references),
        PLAIN: _score(_metric("13a"), [plain(line) for line in translations], [plain(line) for line in references]),
    }


def bleu_signatures() -> dict[str, str]:
    """Return sacrebleu's signature of each score, such as "nrefs:1|case:lc|eff:no|tok:none|smooth:exp|version:2.6.0".

    Raises ExecutionError where sacrebleu or sacremoses is not installed.
    """
    require("sacremoses", "translation")
    signatures = {}
    for name, tokenisation in ((TOKENISED, "none"), (PLAIN, "13a")):
        metric = _metric(tokenisation)
        _score(metric, ["a"], ["a"])  # the signature holds the number of references, so it needs to have seen some
        signatures[name] = metric.get_signature().format()
    return signatures


def _metric(tokenisation: str) -> Any:
    require("sacrebleu", "translation")
    return require("sacrebleu.metrics", "translation").BLEU(tokenize=tokenisation, lowercase=True, force=True)


def _score(metric: Any, translations: Sequence[str], references: Sequence[str]) -> float:
    return float(metric.corpus_score(list(translations), [list(references)]).score)


def _detokenizer(language: str) -> Callable[[str], str]:
    """Return a function that joins the tokens of a line to plain text, as Moses does.

    >>> _detokenizer("en")("it &apos;s here , isn &apos;t it ?")
    "it's here, isn't it?"
    """
    moses = require("sacremoses", "translation").MosesDetokenizer(language)
    return lambda line: str(moses.detokenize(line.split(" ")))
