"""Load a spec: a file, a text or a stored one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epsgrid.spec.checking import check
from epsgrid.spec.document import Document
from epsgrid.spec.model import Spec
from epsgrid.spec.overrides import apply
from epsgrid.spec.problems import Place, Problem, ProblemsError
from epsgrid.spec.reading import read

MAX_BYTES = 1_000_000


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Load a spec from a YAML file; torch is not imported for it.

    Args:
        path: the file.
        overrides: `key=value` texts with dotted keys, the last one winning.

    Raises:
        SpecError: the file cannot be read or what it says cannot be used; every problem is told, one per line, with
            line, column and dotted field.
    """
    return parse_spec(_text_of(Path(path)), str(path), overrides)


def parse_spec(text: str, source: str = "<spec>", overrides: Sequence[str] = ()) -> Spec:
    """Return the spec that a YAML text states.

    Args:
        text: YAML.
        source: what messages call it.
        overrides: as for `load_spec`.

    Raises:
        SpecError: as for `load_spec`.
    """
    return check(apply(read(text, source), overrides))


def spec_from_json(values: Mapping[str, Any], source: str) -> Spec:
    """Return the spec that was stored as `spec.model_dump(mode="json")`.

    Args:
        values: plain JSON values.
        source: the file they come from, for messages.

    Raises:
        SpecError: they are no spec, or its plug-ins are not there.
    """
    execution = values.get("execution")
    if isinstance(execution, Mapping):  # earlier versions stored a key that is gone
        kept = {key: value for key, value in execution.items() if key != "keep_checkpoints"}
        values = {**values, "execution": kept}
    return check(apply(Document(source, dict(values)), ()))


def _text_of(path: Path) -> str:
    def refused(message: str) -> ProblemsError:
        return ProblemsError(Problem(Place(str(path)), "", message))

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise refused(f"cannot read the spec: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise refused(f"larger than {MAX_BYTES:,} bytes; is this a spec?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refused(f"not UTF-8 (byte 0x{data[error.start]:02x} in line {line}); save it as UTF-8") from error
