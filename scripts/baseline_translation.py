"""Compute what a translation must beat: BLEU of the source copied as it stands, of the validation and test pairs.

    python scripts/baseline_translation.py [--root FOLDER] [--source de] [--target en]

Names, numbers and punctuation agree between languages, so copying scores above zero. The text is read as the task
`translation` reads it, and scored as there: tokenised and lower-cased.
"""

from __future__ import annotations

import argparse
import sys

from epsgrid.data._parallel import join
from epsgrid.errors import EpsgridError
from epsgrid.tasks import translation
from epsgrid.tasks._translation import bleu_metric


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", default="iwslt14-subset", help="folder of the text, or its name among the data folders"
    )
    parser.add_argument("--source", default="de", help="ending of the source's files")
    parser.add_argument("--target", default="en", help="ending of the target's files")
    parser.add_argument(
        "--vocabulary", type=int, default=2000, help="pieces of the encoding; they do not change the score"
    )
    arguments = parser.parse_args()
    try:
        settings = {key: getattr(arguments, key) for key in ("root", "source", "target", "vocabulary")}
        corpus = translation.prepare(translation.Options(name="translation", **settings))
    except EpsgridError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(corpus.description)
    print(f"{'split':<12}{'pairs':>8}{'BLEU':>8}")
    for split, pairs in (("validation", corpus.validation), ("test", corpus.test)):
        copied = [join([corpus.source_pieces[i] for i in pairs.source[row]]) for row in range(len(pairs))]
        print(
            f"{split:<12}{len(copied):>8,}{bleu_metric().corpus_score(copied, [pairs.reference_lines()]).score:>8.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
