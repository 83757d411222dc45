"""Sweeps: one record per job, a child that launches, a parent that watches, a table at the end. Without Hydra."""
