"""From nothing to a model that calls tools, and what preference adds to demonstration."""
