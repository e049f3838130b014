"""What every benchmark says first: the hardware and the versions that its figures hold for."""

from __future__ import annotations

import torch

from compresskit.checkpoint.manifest import package_versions
from compresskit.evaluate.measure import describe_device


def headline(device: torch.device) -> str:
    """One line: device and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return f"{describe_device(device).get('name', device.type)}; {versions}"
