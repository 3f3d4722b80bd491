"""Exact bounds, multiple testing, bootstrap and scores: numbers in, numbers out."""
