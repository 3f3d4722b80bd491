"""Levers together: what each saves alone and all of them together, measured in one run."""
