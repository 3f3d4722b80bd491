"""From recorded samples to a policy with a certificate."""
