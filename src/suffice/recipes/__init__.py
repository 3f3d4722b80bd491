"""Whole jobs: each joins the planes, takes a frozen config and returns a typed result."""
