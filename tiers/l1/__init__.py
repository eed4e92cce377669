"""The cache in the memory of the process: the arena, its coherence and its namespaces."""
