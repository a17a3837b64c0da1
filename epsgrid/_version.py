"""The version, for modules that record it, which the package itself imports only when they are used."""

__version__ = "0.1.0"
