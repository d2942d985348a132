"""The networks again, for speed: what the plain modules of `model` compute, with fused kernels and no waste.

Nothing here is trained. Each module is tested against the plain one that it stands for.
"""
