"""What devices.py is made of: models with random weights, a workload, and what is measured with them."""
