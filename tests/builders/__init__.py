"""What tests make small models and files with."""

import s4s  # noqa: F401  # torchvision, which diffusers imports, then loads beside a CPU-only torch
