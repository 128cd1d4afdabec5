"""One pass: what vae, gan and imle share, from the decoder to the training loop."""
