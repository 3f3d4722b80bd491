"""Engines that run a shape with random weights, so that it can be timed."""
