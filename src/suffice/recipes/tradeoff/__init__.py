"""Spend FLOPs on training or on inference: a small model with samples against a large one."""
