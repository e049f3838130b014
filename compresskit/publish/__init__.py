"""A checkpoint goes to the Hugging Face Hub: its files, and a model card that tells what it is and what it cost."""
