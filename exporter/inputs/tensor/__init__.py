"""Array inputs."""
