"""A figure as it leaves the drawing: bytes in each format, and the words that go with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as bytes, with the words to print beside it.

    Attributes:
        name: stem of its files, and its address on the page.
        caption: what to read below it.
        svg: as `drawing.to_svg` makes it.
        title: its heading; "" takes the name.
        alt: what it shows, for who cannot see it; "" takes the caption.
        png: None where it was not asked for.
        pdf: likewise.
    """

    name: str
    caption: str
    svg: bytes
    title: str = ""
    alt: str = ""
    png: bytes | None = None
    pdf: bytes | None = None

    @property
    def heading(self) -> str:
        """The title, or the name where there is none."""
        return self.title or self.name.capitalize()

    @property
    def description(self) -> str:
        """What a screen reader says of it."""
        return f"{self.heading}. {self.alt or self.caption}"

    def files(self) -> dict[str, bytes]:
        """Return its content in each format it was rendered in, by the ending of the file."""
        found = {"svg": self.svg, "png": self.png, "pdf": self.pdf}
        return {suffix: content for suffix, content in found.items() if content is not None}
