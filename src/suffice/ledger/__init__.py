"""What happened: requests, samples, outcomes, judgements; and what each key may still spend."""
