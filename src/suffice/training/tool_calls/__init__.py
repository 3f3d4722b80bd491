"""A small model that calls tools: questions, chains, pairs of them, and what is learned from."""
