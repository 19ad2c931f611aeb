"""Golden noise: starting noise that a text-to-image model makes better images of (Zhou et al., arXiv:2411.09502)."""
