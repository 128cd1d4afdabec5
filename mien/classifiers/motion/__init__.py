"""Networks that see motion: optical flow of a clip, or its frames."""
