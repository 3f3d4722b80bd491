"""Colouring a random graph with three colours so that no edge joins equal ones.

A token is a vertex. Its first N fields are its row of the adjacency matrix, 0 or 1; the last one
is 0, or its colour plus one where that is given. The answer is a colour for every vertex. Given are
the colours of the ends of the first edge (in the order of vertex pairs): else every colouring would
come six times, by renaming colours.

Graphs are G(N, p) of Erdős and Rényi with p = 1/2, kept if they have an edge and can be coloured,
each labelled graph once: 7,002 to learn from and 255 to be judged by with 8 vertices, 13,465 and
192 with 10, as published for GRAM (arXiv:2605.19376), whose p and encoding are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suffice.core.errors import InputError
from suffice.tasks.grids.puzzles import (
    Bools,
    GridShape,
    Ints,
    Puzzles,
    Splits,
    read_cells,
    shared_out,
    words_of,
    write_cells,
)

COLOURS = 3
EDGE_PROBABILITY = 0.5
SIZES = {8: (7002, 255), 10: (13465, 192)}  # published, by number of vertices
OTHERWISE = (4000, 200)
SMALLEST, LARGEST = 3, 16
# Drawn apart from how puzzles are shared out, so that all seeds see the same graphs.
GRAPHS_SEED = 20260101


@dataclass(frozen=True, slots=True)
class Colouring:
    """Three-colouring of graphs with `vertices` vertices."""

    vertices: int

    def __post_init__(self) -> None:
        if not SMALLEST <= self.vertices <= LARGEST:
            raise InputError(
                f"colouring needs {SMALLEST} to {LARGEST} vertices, got {self.vertices}"
            )

    @property
    def name(self) -> str:
        """colouring-8."""
        return f"colouring-{self.vertices}"

    @property
    def shape(self) -> GridShape:
        """A token per vertex."""
        n = self.vertices
        return GridShape(tokens=n, fields=n + 1, values=COLOURS + 1, classes=COLOURS)

    def splits(self, seed: int) -> Splits:
        """Distinct random graphs that can be coloured."""
        train, test = SIZES.get(self.vertices, OTHERWISE)
        upper = np.triu_indices(self.vertices, 1)
        wanted = min(train + test, 2 ** len(upper[0]) // 4)
        random = np.random.default_rng((GRAPHS_SEED, self.vertices))
        seen: set[bytes] = set()
        found: list[tuple[Ints, list[Ints]]] = []
        while len(found) < wanted:
            edges = random.random(len(upper[0])) < EDGE_PROBABILITY
            key = edges.tobytes()
            if key in seen or not edges.any():
                continue
            seen.add(key)
            given = self._input(edges, upper)
            if solutions := colourings(given):
                found.append((given, [np.array(s) for s in solutions]))
        return shared_out(Puzzles.of(found), seed, train=len(found) * train // (train + test))

    def right(self, inputs: Ints, answers: Ints) -> Bools:
        """No edge between equal colours, and the given colours kept."""
        given: Ints = inputs[..., -1]
        allowed = ((given == 0) | (given == answers + 1)) & (answers >= 0) & (answers < COLOURS)
        kept: Bools = allowed.all(axis=-1)
        proper: Bools = self.conflicts(inputs, answers) == 0
        return kept & proper

    def conflicts(self, inputs: Ints, answers: Ints) -> Ints:
        """Edges that join equal colours."""
        equal = answers[..., :, None] == answers[..., None, :]
        found: Ints = ((inputs[..., :-1] > 0) & equal).sum(axis=(-2, -1)) // 2
        return found

    def count(self, given: Ints) -> int:
        """Colourings of one graph that keep the given colours."""
        return len(colourings(given))

    def prompt(self, given: Ints) -> str:
        """colouring-4 010110 12..: the upper triangle of the matrix by rows, the given colours."""
        upper = np.triu_indices(self.vertices, 1)
        edges = "".join(str(int(v)) for v in given[:, :-1][upper])
        return f"{self.name} {edges} {write_cells(given[:, -1])}"

    def parse(self, prompt: str) -> Ints:
        """The graph of a prompt."""
        edges, colours = words_of(prompt, self.name, 2)
        upper = np.triu_indices(self.vertices, 1)
        if len(edges) != len(upper[0]) or set(edges) - {"0", "1"}:
            raise InputError(f"edges {edges!r} must be {len(upper[0])} characters from '01'")
        given = np.zeros((self.vertices, self.vertices + 1), dtype=np.int64)
        given[upper] = [int(c) for c in edges]
        given[:, :-1] |= given[:, :-1].T
        given[:, -1] = read_cells(colours, self.vertices, COLOURS, what="colours")
        return given

    def _input(self, edges: Bools, upper: tuple[Ints, ...]) -> Ints:
        given = np.zeros((self.vertices, self.vertices + 1), dtype=np.int64)
        given[:, :-1][upper] = edges
        given[:, :-1] |= given[:, :-1].T
        first = int(edges.argmax())
        given[upper[0][first], -1], given[upper[1][first], -1] = 1, 2
        return given


def colourings(given: Ints) -> list[tuple[int, ...]]:
    """All proper colourings of an input that keep its given colours, depth first by vertex."""
    size = len(given)
    neighbours = [[j for j in range(i) if given[i, j]] for i in range(size)]
    fixed = [int(v) - 1 for v in given[:, -1]]
    found: list[tuple[int, ...]] = []
    chosen = [0] * size

    def colour(vertex: int) -> None:
        if vertex == size:
            found.append(tuple(chosen))
            return
        taken = {chosen[j] for j in neighbours[vertex]}
        for value in range(COLOURS) if fixed[vertex] < 0 else (fixed[vertex],):
            if value not in taken:
                chosen[vertex] = value
                colour(vertex + 1)

    colour(0)
    return found
