"""What networks of motion share."""
