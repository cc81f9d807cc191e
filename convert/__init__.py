"""Files in, graphs rewritten, files out, both graphs run."""
