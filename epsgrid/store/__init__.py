"""WHAT CAME BACK: plain files, readable for people, that survive a kill at any moment.

Nothing already computed is ever lost: a file is written whole under a temporary name and renamed, a line is appended
and synced, and each record carries a checksum. There is no database; the folders are the truth.
"""
