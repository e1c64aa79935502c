"""What compare.py and scaling.py share: the job, a turn of one engine at it, the machine, and tables."""
