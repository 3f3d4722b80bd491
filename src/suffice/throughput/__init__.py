"""What does a shape cost to run? Predicted by roofline and utilisation, and measured."""
