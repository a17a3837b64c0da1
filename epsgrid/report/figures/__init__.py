"""THE FIGURES OF A REPORT: one file each, from its numbers to the drawing; `style` holds what they share."""
