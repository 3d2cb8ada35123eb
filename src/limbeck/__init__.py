"""Limbeck distils a large image model into a small, fast one, and proves what was gained and lost."""

__version__ = "0.1.0"
