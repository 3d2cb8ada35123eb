"""Limbeck from Python."""

from limbeck.api.distillation import distill

__all__ = ["distill"]
