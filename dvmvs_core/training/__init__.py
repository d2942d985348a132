"""How the networks are trained: losses, stages of unfreezing, and the loop that runs them."""
