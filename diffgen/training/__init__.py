"""What every training script shares: loop, optimisers, averages, checkpoints."""
