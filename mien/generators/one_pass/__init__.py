"""One pass: what vae, gan and imle share, from networks to the training loop."""
