"""What can be wrong with a model's inputs or files, as exceptions.

ModelError
├── FeatureError        a profile or schema that cannot be encoded
├── TopologyError       a U-Net or CLIP of a shape this method does not fit
└── WeightsError        saved weights that do not belong to the model or schema at hand
"""


class ModelError(ValueError):
    """Base of everything raised by `training.models` on purpose."""


class FeatureError(ModelError):
    """A profile, or a feature schema, that cannot be encoded."""


class TopologyError(ModelError):
    """A backbone whose blocks are not those the method attaches to."""


class WeightsError(ModelError):
    """Saved weights that do not fit: missing, superfluous or of another shape or schema."""
