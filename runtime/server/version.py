"""Version of the served models."""

# The protocol asks for a version per model. An artifact has none besides its content, so each is served as version 1.
MODEL_VERSION = "1"
