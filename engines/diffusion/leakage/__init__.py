"""Leakage of single pictures, kept in a workspace: where words look, the repair, and edits made three ways."""
