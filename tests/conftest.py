pytest_plugins = ["open_inference.plugin"]
