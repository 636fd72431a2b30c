"""Complete trainings that are not tasks of the package: the controller in plain PyTorch loops."""
