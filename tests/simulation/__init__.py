"""A deterministic simulation of producers, workers and their supervisor on one queue."""
