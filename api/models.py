"""The names of models that clients may ask for (spec 1.8). Every name of a locale means the same engine."""

DEFAULT_MODEL = "en-US_BroadbandModel"
"""What a request without `model` means (spec 1.3)."""

SERVED_MODELS = frozenset(
    {DEFAULT_MODEL, "en-US_NarrowbandModel", "en-US_Multimedia", "en-US_Telephony", "en-US"},
)
