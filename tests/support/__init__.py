"""What tests share: fakes, tiny models, faults. No test imports another."""
