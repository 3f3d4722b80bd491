"""Training runs of small shapes from nothing: text, shards, trainer, where runs go."""
