"""Token-sequence inputs."""
