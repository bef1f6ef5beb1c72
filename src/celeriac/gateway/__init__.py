"""What the platform serves over HTTP, beside the broker."""
