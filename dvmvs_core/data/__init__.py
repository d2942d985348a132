"""Sequences of posed frames from scene folders and bags, transforms over time, and synthetic worlds."""
