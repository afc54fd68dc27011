"""The Kubernetes model deployer of stackkit."""
