"""Policies that call tools: one call after the other, or a plan first."""
