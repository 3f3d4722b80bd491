"""Settings of every test."""

from __future__ import annotations

from hypothesis import settings

# A time limit for one example fails on a busy machine and says nothing about the code.
# The same examples every time: a run that fails can be repeated.
settings.register_profile("suffice", deadline=None, derandomize=True, database=None)
settings.load_profile("suffice")
