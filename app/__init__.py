"""What a person sees. Never imports torch, open_clip, diffusers or umap, so that it starts in seconds."""
