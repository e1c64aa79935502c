"""What a person looks through after a run, and what a person gives back."""
