"""Models that predict: of learning curves, and of architectures."""
