"""What the last mile is worth: templates, relaxation, hull distance, and a DFT code that reads the structures."""
