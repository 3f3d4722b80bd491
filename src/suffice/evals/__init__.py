"""What the answer is, and whether it is right: extraction, equivalence, scores."""
