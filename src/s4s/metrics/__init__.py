"""How good samples are: features, Fréchet and kernel distances, precision, recall, coverage, global error."""
