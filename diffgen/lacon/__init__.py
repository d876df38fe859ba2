"""LaCon (Liu et al. 2023): late constraints that steer a trained model by its own features."""
