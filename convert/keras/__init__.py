"""Keras files read as data: the configuration and the arrays, never the code, and never Keras itself."""
