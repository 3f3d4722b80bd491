"""Plots and self-contained HTML pages in one style."""
