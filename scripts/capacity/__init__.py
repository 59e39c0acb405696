"""Capacity planning: measurement of an artifact's server, simulation of replicas, advice."""
