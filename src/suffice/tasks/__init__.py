"""Procedural problems that plain code can check."""
