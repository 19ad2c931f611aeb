"""Everything that computes. Importable and useful without `app`; never imports gradio."""
