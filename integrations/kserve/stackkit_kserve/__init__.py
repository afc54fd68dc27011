"""The KServe model deployer of stackkit."""
