pytest_plugins = ["oip_table.plugin"]
