"""DRAWING FIGURES: one file each, from numbers to a picture; `style` is what they share, `alts` says them in words."""
