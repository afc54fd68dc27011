"""The Amazon SageMaker model deployer of stackkit: each service is an endpoint."""
