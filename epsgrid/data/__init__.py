"""ONE FILE PER DATASET: where it lies, how it is fetched and decoded; the only place that imports torchvision.

A file `data/NAME.py` defines a `load(…)` that returns the decoded data, such as an `ImageSet` of `_images.py`. What
takes long to decode is decoded once into arrays in the cache, which every process maps read-only. Files import neither
torch nor torchvision when they are imported themselves.
"""
