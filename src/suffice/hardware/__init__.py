"""What machines can do: peaks, bandwidths, memory and price, each with its source."""

from suffice.hardware.hardware import Hardware, hardware_names, hardware_text, load_hardware
from suffice.hardware.utilisation import Utilisation, default_utilisation

__all__ = [
    "Hardware",
    "Utilisation",
    "default_utilisation",
    "hardware_names",
    "hardware_text",
    "load_hardware",
]
