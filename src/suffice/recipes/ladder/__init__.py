"""The ladder: plan small shapes, train them, fit a law to what they reached."""
