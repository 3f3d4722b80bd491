"""Fit a law to the 76 runs of arXiv:2501.18107 (Morph), with intervals, and use it."""

from suffice.architecture.fitting import fit
from suffice.architecture.runs import load_runs

runs = load_runs("morph")
found = fit(runs, "chinchilla", bootstrap_draws=200)
print({name: round(found.law.coefficient(name), 4) for name in found.law.family.parameters})
for name in found.law.family.parameters:
    print(name, found.interval(name))
for size in (100e6, 400e6, 1e9):
    print(
        f"{size:.0e} parameters, 20 tokens each: loss {float(found.law.loss(size, 20 * size)):.3f}"
    )
