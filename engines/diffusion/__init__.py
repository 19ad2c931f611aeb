"""Diffusion models: attention maps, inversion, leakage repair (DPL), editing, golden noise (NPNet)."""
