"""Accuracy against cost of every policy on recorded samples."""
