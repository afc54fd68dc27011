"""The Docker model deployer of stackkit: each model server is a container."""
