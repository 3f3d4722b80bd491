"""What puzzles do to a digit."""

from __future__ import annotations

from collections.abc import Mapping

# Six random permutations of the digits; entry i of a row is where digit i goes. Part of the task's
# definition: changing one changes the task.
PERMUTATIONS: Mapping[str, str] = {
    "a": "8314709625",
    "b": "1246597038",
    "c": "3521749068",
    "d": "5238471069",
    "e": "3507694182",
    "f": "9237604815",
}
