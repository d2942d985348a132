"""How much memory this process holds, on the host and on the GPU."""

from __future__ import annotations

from dvmvs_core.process_memory import resident_bytes

MB = 1e6


def memory_values(device: str) -> dict[str, str]:
    """Return resident memory, and the GPU's where the device is one, as text for `/diagnostics`.

    Args:
        device: the engine's device, as torch names it.
    """
    values = {"memory MB": f"{resident_bytes() / MB:.0f}"}
    if device.startswith("cuda"):
        import torch  # loaded by the engine already

        values["GPU memory MB"] = f"{torch.cuda.memory_reserved(device) / MB:.0f}"
    return values
