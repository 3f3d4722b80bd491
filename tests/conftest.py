"""Settings of every test."""

from __future__ import annotations

from hypothesis import settings

# A time limit for one example fails on a busy machine and says nothing about the code.
settings.register_profile("suffice", deadline=None)
settings.load_profile("suffice")
