"""Architecture ablations: one dimension varies, the rest of the shape is held."""
