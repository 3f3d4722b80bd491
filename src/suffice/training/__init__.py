"""Training: shapes from nothing (pretrain), a model's modes (modes), latent reasoners (latent)."""
