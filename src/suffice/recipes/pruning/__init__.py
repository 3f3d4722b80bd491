"""`suffice train prune`: a pruner, pruned traces by every method, and students trained on them."""
