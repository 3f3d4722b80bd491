"""A small model that plans: generated questions over tools, their texts, and its training."""
