"""When should a model think? The small model that ships, training the choice, measuring it."""
