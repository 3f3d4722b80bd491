"""Trainers of recursive networks: TRM and GRAM."""
