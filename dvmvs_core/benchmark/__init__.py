"""How fast the engine is, stage by stage, and what memory it takes."""
