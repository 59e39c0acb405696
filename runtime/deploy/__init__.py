"""Past one machine: what other people's engines need to run an artifact, and the jobs and services that run on them."""
