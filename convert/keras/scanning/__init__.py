"""The map of a patch network as a Keras network again: rewritten layer by layer, and written as Keras writes it."""
