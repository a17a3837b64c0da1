"""THE NUMBERS OF FIGURES: one file each, from stored records and the comparison to plain values; nothing is drawn."""
