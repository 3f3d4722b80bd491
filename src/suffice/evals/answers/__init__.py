"""What a text answers with: numbers, units, choice letters, boxes."""
