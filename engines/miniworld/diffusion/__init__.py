"""The recipe of the shipped mini text-to-image model: an ordinary Stable Diffusion pipeline in a very small size."""
