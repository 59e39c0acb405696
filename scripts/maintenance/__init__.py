"""Files of the repository that are generated: lock, fingerprints, test artifact, frozen bytes."""
