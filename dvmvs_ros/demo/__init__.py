"""`make demo`: player, depth node and recorder as processes of their own, and what came of it."""
