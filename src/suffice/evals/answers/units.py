"""Names of units, what they measure, and how much of it: 1 m is 100 cm, and 12 cm are not 12 m."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """What a unit measures, and how many base units it is; a word that is no unit is its own."""

    measures: str
    factor: Fraction


# Per quantity: factors in base units by spelling, plural forms aside. Sizes as in the SI brochure
# (9th edition) and NIST Handbook 44 (international yard and avoirdupois pound).
_SIZES: dict[str, dict[str, str]] = {
    "length": {
        "nm nanometer nanometre": "1/1000000000",
        "µm um micrometer micrometre micron": "1/1000000",
        "mm millimeter millimetre": "1/1000",
        "cm centimeter centimetre": "1/100",
        "dm decimeter decimetre": "1/10",
        "m meter metre": "1",
        "km kilometer kilometre": "1000",
        "in inch inches": "0.0254",
        "ft foot feet": "0.3048",
        "yd yard": "0.9144",
        "mi mile": "1609.344",
    },
    "mass": {
        "mg milligram milligramme": "1/1000000",
        "g gram gramme": "1/1000",
        "kg kilogram kilogramme kilo": "1",
        "t tonne": "1000",
        "lb lbs pound": "0.45359237",
        "oz ounce": "0.028349523125",
    },
    "time": {
        "ms millisecond": "1/1000",
        "s sec secs second": "1",
        "min mins minute": "60",
        "h hr hrs hour": "3600",
        "d day": "86400",
        "wk wks week": "604800",
    },
    "volume": {"ml mL milliliter millilitre": "1/1000", "cl": "1/100", "l L liter litre": "1"},
    "angle": {"° deg degree": "1"},
    "temperature °C": {"°C celsius": "1"},
    "temperature °F": {"°F fahrenheit": "1"},
    "energy": {"J joule": "1", "kJ kilojoule": "1000"},
    "power": {"W watt": "1", "kW kilowatt": "1000", "MW megawatt": "1000000"},
    "dollars": {"$ USD dollar": "1", "¢ cent": "1/100"},
    "euros": {"€ EUR euro": "1"},
    "pounds sterling": {"£ GBP": "1"},
    "yen": {"¥ JPY yen": "1"},
    "rupees": {"₹ INR Rs rupee": "1"},
}
_UNITS = {
    name: Unit(measures, Fraction(factor))
    for measures, sizes in _SIZES.items()
    for names, factor in sizes.items()
    for name in names.split()
}
_OTHERS = (
    "B KB MB GB TB bit kbit Mbit Hz kHz MHz GHz V mV kV A mA N kN Pa kPa MPa bar cal kcal mol K eV "
    "dB mph kmh kph rpm px pt ha acre gal qt cc ºC lx lm Wh kWh"
)
_UNITS |= {name: Unit(name, Fraction(1)) for name in _OTHERS.split() if name not in _UNITS}
_PIECE = re.compile(r"([^\W\d_]+|[°$€£¥₹¢]C?F?)\.?(?: ?\^ ?\{? ?(-?\d) ?\}?|(-?\d))?")
# Words that join a second thing to the number.
_JOINING = frozenset(
    [
        "and",
        "or",
        "to",
        "by",
        "of",
        "is",
        "are",
        "not",
        "plus",
        "minus",
        "times",
        "x",
        "vs",
        "y",
        "und",
        "oder",
        "et",
        "ou",
    ]
)
_MOST_CHARACTERS = 60  # longer words behind a number are a sentence
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}

NONE = Unit("", Fraction(1))
# Whole units of money: their signs are dropped where a number alone is asked for.
MONEY = tuple(
    Unit(f"{name}^1", Fraction(1))
    for name in ("dollars", "euros", "pounds sterling", "yen", "rupees")
)


def one_letter(name: str) -> bool:
    """Whether a single letter right behind a number is a unit, and not algebra: 5m but not 5x."""
    return name in _UNITS and name not in ("d", "t")


def is_unit(name: str) -> bool:
    """Whether a word is a unit's name."""
    return _named(name) is not None


def unit_of(text: str) -> Unit | None:
    """The unit that a whole text names: cm, cm^2, square feet, km/h, apples; None if it is none."""
    text = text.strip().strip(".").strip()
    if not text:
        return NONE
    if len(text) > _MOST_CHARACTERS:
        return None
    measures: dict[str, int] = {}
    factor = Fraction(1)
    power = 1
    for part_number, part in enumerate(re.split(r"/|\bper\b", text)):
        sign = -1 if part_number else 1
        pieces = list(_PIECE.finditer(part))
        if not pieces or _PIECE.sub("", part).strip():
            return None
        for piece in pieces:
            name, exponent = piece[1], piece[2] or piece[3]
            if name.lower() in _JOINING or (
                len(name) == 1 and name.isascii() and not is_unit(name)
            ):
                return None
            if name.lower() in _POWERS and not exponent:
                power = _POWERS[name.lower()]
                continue
            unit = _named(name) or Unit(_singular(name.casefold()), Fraction(1))
            times = sign * power * int(exponent or 1)
            measures[unit.measures] = measures.get(unit.measures, 0) + times
            factor *= unit.factor**times
            power = 1
    told = " ".join(f"{name}^{n}" for name, n in sorted(measures.items()) if n)
    return Unit(told, factor)


def _named(name: str) -> Unit | None:
    for spelling in (name, name.lower(), _singular(name.lower())):
        if spelling in _UNITS:
            return _UNITS[spelling]
    return None


def _singular(name: str) -> str:
    if name.endswith("ies") and len(name) > 4:
        return name[:-3] + "y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") and len(name) > 3 else name
