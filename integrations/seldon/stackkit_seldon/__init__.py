"""The Seldon Core model deployer of stackkit."""
