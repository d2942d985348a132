"""What the depth node says of itself and of its inputs, in figures and in words."""
