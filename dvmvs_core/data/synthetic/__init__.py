"""Procedural indoor worlds: training clips and scene folders, rendered on the fly from a seed."""
