"""Carry a policy's actions out against a backend, within the budget."""
