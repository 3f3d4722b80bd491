"""Thoughts that are vectors: a frozen assistant's states, projected, in front of a frozen model."""
