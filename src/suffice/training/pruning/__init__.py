"""Which tokens of a reasoning trace are worth their cost: pruned chains and students on them."""
