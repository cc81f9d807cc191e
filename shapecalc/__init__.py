"""Window arithmetic, receptive fields and layer tables: integers only, no dependency."""
