from __future__ import annotations

import torch
from epsgrid.tasks._augment import PADDING, crop_and_flip
from hypothesis import given, settings
from hypothesis import strategies as st


def one_by_one(
    images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, flips: torch.Tensor, padding: int
) -> torch.Tensor:
    """The slow, obvious way."""
    result = []
    for image, top, left, flip in zip(images, tops.tolist(), lefts.tolist(), flips.tolist(), strict=True):
        _, height, width = image.shape
        padded = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding, dtype=image.dtype)
        padded[:, padding : padding + height, padding : padding + width] = image
        piece = padded[:, top : top + height, left : left + width]
        result.append(piece.flip(2) if flip else piece)
    return torch.stack(result)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 10**6),
    st.sampled_from([0, 1, PADDING, 8]),
)
def test_it_equals_a_loop_over_images(
    count: int, channels: int, height: int, width: int, seed: int, padding: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    flips = torch.randint(0, 2, (count,), dtype=torch.bool, generator=generator)
    expected = one_by_one(images, tops, lefts, flips, padding)
    assert torch.equal(crop_and_flip(images, tops, lefts, flips, padding), expected)


def test_the_middle_piece_is_the_image_itself() -> None:
    images = torch.rand(2, 3, 32, 32)
    middle = torch.tensor([PADDING, PADDING])
    assert torch.equal(crop_and_flip(images, middle, middle, torch.tensor([False, False])), images)
    assert torch.equal(crop_and_flip(images, middle, middle, torch.tensor([True, True])), images.flip(3))
