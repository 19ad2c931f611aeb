"""Ways of writing labels, one file a format: each offers `write(folder, content)`, which returns the files to open."""
