"""What machines can do: peaks, bandwidths, memory and price, each with its source."""
