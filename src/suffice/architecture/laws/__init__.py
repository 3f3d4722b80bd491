"""Loss laws: families, coefficients, where they hold and how far they are off."""

from suffice.architecture.laws.coupled_families import (
    CHINCHILLA_COUPLED,
    CHINCHILLA_REPEATED,
    effective_tokens,
)
from suffice.architecture.laws.domain import Domain, Interval
from suffice.architecture.laws.families import (
    ADDITIVE,
    CHINCHILLA,
    CHINCHILLA_TIED,
    JOINT,
    MORPH,
    MULTIPLICATIVE,
)
from suffice.architecture.laws.family import Family, family_names, load_family, register
from suffice.architecture.laws.law import (
    AbsoluteLaw,
    Comparison,
    ConditionalLaw,
    Law,
    Optimum,
    Provenance,
    build_law,
)
from suffice.architecture.laws.noise import NOISE_FLOOR_NATS, LossNoise
from suffice.architecture.laws.shape_families import (
    CONDITIONAL_ASPECT,
    CONDITIONAL_DEPTH,
    CONDITIONAL_PRODUCT,
    CONDITIONAL_SHAPE,
    CONDITIONAL_WIDTH,
    CONDITIONAL_WIDTH_DEPTH,
    DEPTH_ALONE,
    WIDTH_DEPTH,
)

__all__ = [
    "ADDITIVE",
    "CHINCHILLA",
    "CHINCHILLA_COUPLED",
    "CHINCHILLA_REPEATED",
    "CHINCHILLA_TIED",
    "CONDITIONAL_ASPECT",
    "CONDITIONAL_DEPTH",
    "CONDITIONAL_PRODUCT",
    "CONDITIONAL_SHAPE",
    "CONDITIONAL_WIDTH",
    "CONDITIONAL_WIDTH_DEPTH",
    "DEPTH_ALONE",
    "JOINT",
    "MORPH",
    "MULTIPLICATIVE",
    "NOISE_FLOOR_NATS",
    "WIDTH_DEPTH",
    "AbsoluteLaw",
    "Comparison",
    "ConditionalLaw",
    "Domain",
    "Family",
    "Interval",
    "Law",
    "LossNoise",
    "Optimum",
    "Provenance",
    "build_law",
    "effective_tokens",
    "family_names",
    "load_family",
    "register",
]
