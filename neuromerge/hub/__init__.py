"""What the Hugging Face Hub is asked, and how its answers are told. Knows nothing of tensors: imports in a moment."""
