"""When should a model think? Tasks with verifiable answers, and trainers of the choice."""
