"""Puzzles on a grid, with all of their solutions: queens, colourings, Sudoku."""
