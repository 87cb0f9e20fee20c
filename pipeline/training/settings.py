"""How a generator's preset, the config's overrides and the device become what runs."""

import torch


def settings_of(module, preset: str, overrides: dict):
    """The preset of a generator with some fields replaced.

    Raises:
        ValueError: Names the unknown preset or field, and what there is.
    """
    if preset not in module.PRESETS:
        raise ValueError(f"training.preset: '{preset}' is unknown; {module.__name__} has {', '.join(module.PRESETS)}")
    known = module.Settings.__dataclass_fields__
    for name in overrides:
        if name not in known:
            raise ValueError(f"training.settings: '{name}' is unknown; {module.__name__} has {', '.join(known)}")
    return module.Settings(**{**vars(module.PRESETS[preset]), **overrides})


def pick_device(device: str) -> str:
    """``auto`` becomes ``cuda`` where there is a GPU, else ``cpu``."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device: 'cuda' is asked for but torch sees no GPU; write 'auto' or 'cpu'")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
