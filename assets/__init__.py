"""Shipped files: mini models, styles, example class lists."""
