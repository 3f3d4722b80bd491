"""Who produces tokens: one protocol, and what speaks it."""
