"""How much now? Pure state machines that decide; they never see a clock, a socket or a token id."""
