"""What the depth node is made of, from what it listens to up to what it publishes."""
